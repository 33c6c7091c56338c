"""Compositions of listed losses: against sums over all of them, and close to them."""

import itertools
import math

import numpy as np
import pytest

from dpfunc.accounting import (
    DiscreteGaussian,
    DiscreteLaplace,
    Gaussian,
    Group,
    Laplace,
    Poisson,
    PureDP,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
    delta_bounds,
    epsilon_bounds,
)
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.choice import log_delta_of_served
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.engines.lattice.listed import listed_losses

TIMES = 3
EVENTS = [
    Group(2, DiscreteGaussian(2.08, 2)),
    Poisson(0.1, DiscreteGaussian(3.0, 1)),
    Poisson(0.02, DiscreteLaplace(0.7, 5)),
    WithoutReplacement(9, 100, DiscreteGaussian(2.5, 2)),
    WithReplacement(16, 100, DiscreteLaplace(0.47, 1)),
    TruncatedPoisson(0.05, 6, 10, DiscreteLaplace(1.8, 1)),
]


def exact_delta(pair, epsilon):
    """Of `TIMES` releases: over all sums of losses, each with its own mass under P."""
    losses = listed_losses(pair, 1e-16)
    edges = np.append(losses, math.inf) - 1e-9
    cells = pair.cells(edges)  # one loss in each
    kept = cells.p[1:-1] > 0
    loss, mass = losses[kept], cells.p[1:-1][kept]
    sums, masses = np.zeros(1), np.ones(1)
    for _ in range(TIMES):
        sums = np.add.outer(sums, loss).ravel()
        masses = np.multiply.outer(masses, mass).ravel()
    infinite = 1 - (1 - cells.p[-1]) ** TIMES
    return infinite + float(np.maximum(0.0, -np.expm1(epsilon - sums)) @ masses)


ASKED = [
    *itertools.product(EVENTS, ["remove", "replace_one"]),
    (WithReplacement(50, 1000, PureDP(1.25)), "replace_one"),
]


@pytest.mark.parametrize(("event", "relation"), ASKED, ids=repr)
def test_delta_of_a_few_releases_is_the_sum_over_all_losses(event, relation):
    pair, _ = pairs(event, relation)[0][0]
    for epsilon in (0.0, 0.3, 1.1):
        exact = exact_delta(pair, epsilon)
        found = delta_bounds(event * TIMES, epsilon=epsilon, relation=relation)
        assert found.lower <= exact * (1 + 1e-9) + 1e-13
        assert exact * (1 - 1e-9) - 1e-13 <= found.upper <= exact * (1 + 1e-4) + 1e-13


@pytest.mark.parametrize(
    ("event", "delta", "width"),
    [
        (Poisson(0.0015, DiscreteGaussian(2.17, 5)) * 100, 2.3e-12, 5e-4),
        (DiscreteGaussian(30.0, 1) * 1000, 1e-6, 5e-4),
        (Poisson(0.01, DiscreteGaussian(30.0, 5)) * 1000, 1e-6, 2e-3),
        (Poisson(0.0035, DiscreteLaplace(1.8, 1)) * 3, 7.9e-10, 1e-4),
    ],
    ids=repr,
)
def test_both_ends_are_close_however_far_losses_are_apart(event, delta, width):
    """Cells that are as wide as gaps between losses made them differ by a tenth."""
    lower, upper = epsilon_bounds(event, delta=delta, relation="remove")
    assert 0 < lower <= upper <= lower * (1 + width)


@pytest.mark.parametrize(
    "event",
    [
        Poisson(0.03, Laplace(0.51)) * 100,
        TruncatedPoisson(0.0016, 1, 10, Laplace(0.28)) * 20,
        WithoutReplacement(16, 100, Laplace(1.3)) * 10,
    ],
    ids=repr,
)
def test_atoms_beside_a_density_keep_their_losses(event):
    """From below they would be lowered by as much as nodes are apart there."""
    least, most = log_delta_of_served(pairs(event, "replace_one")[0], 0.025, 1e-5, "auto")[:2]
    assert most - least < 1e-4 * max(1.0, -most)


def test_atoms_that_hardly_ever_happen_get_no_cells():
    """A record drawn fifty times has a loss of 73, with a probability of 1e-200."""
    event = WithReplacement(50, 10_000, Laplace(1.366)) * 100
    once = pairs(event, "zero_out")[0]
    for tol in (1e-3, 1e-4, 1e-5):
        least, most = lattice.log_delta_interval(once, 0.0, tol)
        assert -3.37 < least < most < -3.357


def test_densities_are_no_lists():
    for event in (Gaussian(1.0), Poisson(0.1, Laplace(1.0)), DiscreteGaussian(3000.0, 1)):
        pair, _ = pairs(event, "remove")[0][0]
        assert listed_losses(pair, 1e-12) is None


def test_losses_beyond_a_tail_are_left_out():
    pair, _ = pairs(DiscreteGaussian(3.0, 1), "remove")[0][0]
    counts = [len(listed_losses(pair, tail)) for tail in (1e-30, 1e-12, 1e-3)]
    assert all(more > fewer for more, fewer in itertools.pairwise(counts))
