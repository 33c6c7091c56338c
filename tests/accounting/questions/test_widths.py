"""Answers are as narrow as was asked for, also where a first estimate of them is poor."""

import pytest

from dpfunc.accounting import (
    Gaussian,
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


@pytest.mark.parametrize("delta", [1.3e-11, 1e-5])
def test_nor_does_it_where_it_is_known_what_happened(delta):
    """A record that is replaced costs little more here than one that is removed."""
    removed, replaced = (
        epsilon_bounds(RARELY_DRAWN_OFTEN, delta=delta, relation=relation).upper
        for relation in ("remove", "replace_one")
    )
    assert removed < replaced < 1.25 * removed


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
