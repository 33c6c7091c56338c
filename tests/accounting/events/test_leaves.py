"""Flattening: every release, counted; what tells nothing left out."""

import math

import pytest
from hypothesis import given

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    Compose,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    Poisson,
    PureDP,
    RandomAllocation,
    RandomizedResponse,
    Repeat,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.events.leaves import leaves
from tests.accounting.strategies import EVENTS

STEP, LAPLACE = Poisson(0.1, Gaussian(2.0)), Laplace(3.0)
SILENT = [
    Gaussian(math.inf),
    Laplace(math.inf),
    DiscreteGaussian(math.inf, 1),
    MixtureOfGaussians(math.inf, (1.0,), (1.0,)),
    DiscreteLaplace(0.0, 1),
    RandomizedResponse(1.0, 2),
    RandomizedResponse(0.0, 1),
    ExponentialMechanism(0.0),
    PureDP(0.0),
    ApproxDP(0.0, 0.0),
    ZCDP(0.0),
]


@given(EVENTS)
def test_leaves_are_leaves_and_counted_once(event):
    flat = leaves(event)
    assert all(times > 0 for _, times in flat)
    assert len({leaf for leaf, _ in flat}) == len(flat)
    for leaf, _ in flat:
        assert leaves(leaf) == [(leaf, 1)]


@given(EVENTS, EVENTS)
def test_repeats_and_sums_add_up(first, second):
    total = {}
    for leaf, times in [*leaves(first * 3), *leaves(second)]:
        total[leaf] = total.get(leaf, 0) + times
    assert dict(leaves(first * 3 + second)) == total


def test_flattening():
    event = Repeat(Compose((STEP, LAPLACE)), 3) + STEP + Repeat(Repeat(STEP, 2), 5)
    assert leaves(event) == [(STEP, 14), (LAPLACE, 3)]


def test_nested_repeats_multiply():
    """Not within a sum, which joins neighbours and their repeats before anything is flattened."""
    ten = Repeat(Repeat(STEP, 2), 5)
    assert leaves(ten) == [(STEP, 10)]
    assert leaves(Repeat(Compose((ten, LAPLACE)), 3)) == [(STEP, 30), (LAPLACE, 3)]
    assert leaves(Repeat(Group(2, ten), 3)) == [(Group(2, STEP), 30)]


@pytest.mark.parametrize("silent", SILENT, ids=repr)
def test_what_tells_nothing_is_left_out(silent):
    for event in (
        silent,
        silent * 5,
        Poisson(0.5, silent),
        Poisson(1.0, silent),
        TruncatedPoisson(0.5, 3, 10, silent),
        WithoutReplacement(5, 10, silent),
        WithReplacement(5, 10, silent),
        RandomAllocation(1, 10, silent),
        Shuffled(silent),
        Group(3, silent),
    ):
        assert leaves(event) == []


@pytest.mark.parametrize(
    "unread",
    [
        Repeat(LAPLACE, 0),
        Compose(()),
        Poisson(0.0, LAPLACE),
        TruncatedPoisson(0.0, 3, 10, LAPLACE),
        WithoutReplacement(0, 10, LAPLACE),
        WithReplacement(0, 10, LAPLACE),
        RandomAllocation(0, 10, LAPLACE),
        Poisson(0.0, NonPrivate()),
    ],
    ids=repr,
)
def test_what_is_never_read_is_left_out(unread):
    assert leaves(unread) == leaves(Group(4, unread)) == []


@pytest.mark.parametrize(
    "sure", [Poisson(1.0, LAPLACE), WithoutReplacement(10, 10, LAPLACE), Group(1, LAPLACE)]
)
def test_a_sample_of_everything_is_no_sample(sure):
    assert leaves(sure) == [(LAPLACE, 1)]


def test_taking_part_in_every_step_is_no_allocation():
    assert leaves(RandomAllocation(10, 10, LAPLACE) * 3) == [(LAPLACE, 30)]


def test_a_shuffle_stays_because_it_forbids_some_questions():
    assert leaves(Shuffled(LAPLACE) * 3) == [(Shuffled(LAPLACE), 3)]


def test_a_group_stands_around_each_release():
    event = Group(2, (STEP + Group(3, LAPLACE)) * 5)
    assert leaves(event) == [(Group(2, STEP), 5), (Group(6, LAPLACE), 5)]


def test_every_record_of_a_group_answers_for_itself():
    response = RandomizedResponse(0.5, 2)
    assert leaves(Group(3, response) * 2 + response) == [(response, 7)]
