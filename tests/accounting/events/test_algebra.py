"""The algebra of events: sums, multiples, and a repr that is the event again."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfunc import accounting
from dpfunc.accounting import Compose, Gaussian, Laplace, Poisson, Repeat, TruncatedPoisson
from dpfunc.accounting.events.algebra import as_run
from tests.accounting.strategies import EVENTS

A, B = Poisson(0.1, Gaussian(2.0)), Gaussian(5.0)


def counts(event, times=1):
    """How often each event without parts runs, by counting through the tree."""
    match event:
        case Repeat(inner, repeats):
            return counts(inner, times * repeats)
        case Compose(parts):
            total = {}
            for part in parts:
                for leaf, count in counts(part, times).items():
                    total[leaf] = total.get(leaf, 0) + count
            return total
        case _:
            return {event: times}


def test_steps_are_counted():
    assert A * 100 == 100 * A == Repeat(A, 100)
    assert Repeat(A, 6) == A * 2 * 3
    assert Repeat(Compose((A, B)), 3) == (A + B) * 3


def test_equal_neighbours_become_one_run():
    assert A + A == A * 2
    assert A * 3 + A == A + A * 3 == A * 4
    assert Compose((A, B * 5)) == A + B + B * 4
    assert Compose((A, B, A)) == A + B + A


def test_a_ledger_of_many_steps_stays_one_line():
    spent = Compose(())
    for _ in range(1000):
        spent = spent + A
    assert spent == A * 1000


def test_nothing_is_the_neutral_element():
    assert Compose(()) + A == A + Compose(()) == A
    assert Compose(()) + Compose(()) == Compose(())
    assert sum([A, A, B], Compose(())) == Compose((A * 2, B))


@given(EVENTS, EVENTS, EVENTS)
def test_sums_lose_nothing_and_group_as_you_like(first, second, third):
    together = first + second + third
    assert together == first + (second + third)
    assert counts(together) == counts(Compose((first, second, third)))


@given(EVENTS, st.integers(0, 1000), st.integers(0, 1000))
def test_multiples(event, times, more):
    assert event * times * more == event * (times * more)
    assert counts(event * times + event * more) == counts(event * (times + more))


@given(EVENTS)
def test_repr_is_the_event_again(event):
    assert eval(repr(event), {**vars(accounting), "float": float}) == event


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (A * 100 + B, "Poisson(0.1, Gaussian(2.0)) * 100 + Gaussian(5.0)"),
        ((A + B) * 3, "(Poisson(0.1, Gaussian(2.0)) + Gaussian(5.0)) * 3"),
        (Compose(()), "Compose(())"),
        (Compose((A, A)), f"Compose(({A}, {A}))"),
        (Repeat(Repeat(B, 2), 3), "Repeat(Gaussian(5.0) * 2, 3)"),
        (Compose((Compose((A, B)), A)), f"Compose(({A} + {B}, {A}))"),
        (Laplace(math.inf), "Laplace(float('inf'))"),
        (
            TruncatedPoisson(0.1, 30, 100, B),
            "TruncatedPoisson(sample_rate=0.1, max_batch_size=30, dataset_size=100, "
            "event=Gaussian(5.0))",
        ),
    ],
)
def test_repr_reads_like_the_algebra(event, text):
    assert repr(event) == text


def test_runs():
    assert as_run(Repeat(Repeat(B, 2), 3)) == (B, 6)
    assert as_run(A + B) == (A + B, 1)


@pytest.mark.parametrize("times", [1.0, "2", None, True, Fraction(2)])
def test_only_whole_numbers_multiply(times):
    with pytest.raises(TypeError):
        A * times


@pytest.mark.parametrize("other", [0, 1.0, None, "Gaussian"])
def test_only_events_add(other):
    with pytest.raises(TypeError):
        A + other


def test_errors():
    with pytest.raises(ValueError, match="Repeat: expected an int times >= 0"):
        A * -1
    with pytest.raises(ValueError, match="at most 2"):
        A * 2**53 * 2
    with pytest.raises(TypeError, match="Compose: expected a tuple of events but got 'list'"):
        Compose([A])
    with pytest.raises(TypeError, match="Compose: expected an event but got 'int'"):
        Compose((A, 3))
    with pytest.raises(TypeError, match="Repeat: expected an event but got 'float'"):
        Repeat(1.0, 3)
