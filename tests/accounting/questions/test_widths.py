"""Answers are as narrow as was asked for, also where a first estimate of them is poor."""

import mpmath
import pytest

from dpfunc.accounting import (
    Gaussian,
    Poisson,
    RandomAllocation,
    WithReplacement,
    delta_bounds,
    dp_sgd,
    epsilon_bounds,
)
from dpfunc.accounting.engines.lattice import law, refining

TOL = 1e-5
RARELY_DRAWN_OFTEN = WithReplacement(50, 10_000, Gaussian(12.7)) * 20


def little_noise(sigma, rate=0.01, steps=100):
    return dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)


def both_ends(event, delta, relation):
    """Epsilon, and the logarithm's width of delta there."""
    lower, upper = epsilon_bounds(event, delta=delta, relation=relation, tol=TOL)
    least, most = delta_bounds(event, epsilon=upper, relation=relation, tol=TOL)
    assert least <= delta * (1 + 1e-9)
    return 1 - lower / upper, 1 - least / most


@pytest.mark.parametrize(
    "event", [little_noise(0.1), little_noise(0.04), little_noise(0.1, 0.5, 3)]
)
def test_a_poor_estimate_is_not_paid_for_with_points(event, monkeypatch):
    """Epsilon is far from its estimate: another tilt is needed, not a large grid."""
    points = []

    def noted(composition, grid, *cut, **options):
        points.append(grid.points)
        return law.spectrum(composition, grid, *cut, **options)

    monkeypatch.setattr(refining, "spectrum", noted)
    of_epsilon, of_delta = both_ends(event, 1e-5, "remove")
    assert max(points) <= 2**19
    assert of_epsilon <= TOL
    assert of_delta <= 12 * TOL  # of its logarithm, which is -11.5


@pytest.mark.parametrize("relation", ["remove", "add"])
@pytest.mark.parametrize("delta", [1.3e-11, 1e-5])
def test_what_hardly_ever_happens_widens_nothing(delta, relation):
    """A record may be drawn fifty times, with a probability of 1e-200, and then has a huge loss."""
    of_epsilon, of_delta = both_ends(RARELY_DRAWN_OFTEN, delta, relation)
    assert of_epsilon <= TOL
    assert of_delta <= 26 * TOL


@pytest.mark.parametrize("delta", [pytest.param(1.3e-11, marks=pytest.mark.nightly), 1e-5])
def test_nor_does_it_where_it_is_known_what_happened(delta):
    """A record that is replaced costs little more here than one that is removed."""
    removed, replaced = (
        epsilon_bounds(RARELY_DRAWN_OFTEN, delta=delta, relation=relation).upper
        for relation in ("remove", "replace_one")
    )
    assert removed < replaced < 1.25 * removed


def test_rounding_is_not_taken_for_a_poor_estimate():
    """Its first transform knows a tiny epsilon a thousand times worse than sums do."""
    tiny = WithReplacement(2, 10**9, Gaussian(100.0)) * 1000
    assert epsilon_bounds(tiny, delta=1e-12, relation="replace_one").upper < 3.7e-9


@pytest.mark.parametrize("relation", ["remove", "add"])
@pytest.mark.parametrize("sigma", [0.8, 0.6, 0.36])
@pytest.mark.parametrize("epochs", [20, 1])
def test_random_allocations_with_little_noise(epochs, sigma, relation):
    """Where no series ends early enough two lists are close to each other."""
    event = RandomAllocation(1, 100, Gaussian(sigma)) * epochs
    lower, upper = epsilon_bounds(event, delta=1e-5, relation=relation)
    assert 0 < lower <= upper <= lower * 1.001


def test_random_allocations_at_a_tiny_delta():
    """A series knows little of a tail of 1e-12, lists do."""
    event = RandomAllocation(1, 200, Gaussian(1.3)) * 3
    lower, upper = epsilon_bounds(event, delta=3e-10)
    assert 0 < lower <= upper <= lower * 1.003
    least, most = delta_bounds(event, epsilon=upper)
    assert least <= 3e-10
    assert least > 0.97 * most


@pytest.mark.parametrize(("steps", "lower", "upper"), [(5, 6.5e-13, 6.6e-13), (20, 0.0, 1e-41)])
def test_a_series_does_not_replace_what_lists_know_better(steps, lower, upper):
    found = delta_bounds(RandomAllocation(1, steps, Gaussian(3.0)), epsilon=1.0, relation="add")
    assert lower <= found.lower <= found.upper <= upper


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.05])
def test_random_allocations_with_hardly_any_noise(sigma):
    found = epsilon_bounds(RandomAllocation(1, 10, Gaussian(sigma)), delta=1e-5)
    assert 0 < found.upper < 0.51 / sigma**2 + 5 / sigma


@pytest.mark.parametrize(("sigma", "epsilon"), [(0.034, 699.0), (0.04, 690.0), (0.1, 350.0)])
def test_one_release_where_masses_are_too_small_for_a_float(sigma, epsilon):
    """``exp(epsilon)`` makes much of a mass that is 0 as a float."""
    rate = 0.5
    with mpmath.workdps(60):
        noise = mpmath.mpf(sigma)
        ratio = (
            mpmath.exp(epsilon) - (1 - rate)
        ) / rate  # of the densities, where the loss is that
        place = noise * mpmath.log(ratio) + 1 / (2 * noise)
        below, moved = mpmath.ncdf(-place), mpmath.ncdf(1 / noise - place)
        truth = (1 - rate) * below + rate * moved - mpmath.exp(epsilon) * below
        lower, upper = delta_bounds(
            Poisson(rate, Gaussian(sigma)), epsilon=epsilon, relation="remove"
        )
        assert lower <= truth <= upper <= 10 * truth
