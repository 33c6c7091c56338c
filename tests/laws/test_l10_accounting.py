"""L10: the accountant's interval holds the truth, order by order and engine by engine.

The truths were computed independently (contour integrals in another program, or 50 digits), so a
wrong formula anywhere below moves an end across them.
"""

import itertools
import math

import pytest
from scipy.integrate import quad
from scipy.stats import norm

from dpfunc.accounting import (
    Gaussian,
    Poisson,
    RandomAllocation,
    Repeat,
    delta_bounds,
    epsilon_bounds,
    epsilon_curve_bounds,
)
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.affinity import log_delta_at_least
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.pairs import single

RUN = Repeat(Poisson(0.08192, Gaussian(3.0)), 2000)
TRUTH = 5.7742721312793925  # delta = 1e-5, good to 1e-10


@pytest.mark.parametrize("method", ["auto", "contour", "lattice"])
def test_the_interval_holds_the_truth(method):
    bounds = epsilon_bounds(RUN, delta=1e-5, method=method)
    assert bounds.lower <= TRUTH * (1 + 1e-10)
    assert bounds.upper >= TRUTH * (1 - 1e-10)
    assert bounds.width <= 1e-5


def test_a_curve_holds_the_truth_at_each_of_its_ends():
    for others in ([1500], [1990, 2100]):
        steps = [2000, *others]
        lower, upper = epsilon_curve_bounds(RUN.event, steps=steps, delta=1e-5)
        assert lower[0] <= TRUTH * (1 + 1e-10)
        assert upper[0] >= TRUTH * (1 - 1e-10)
        assert upper[0] - lower[0] <= 1e-7


def test_each_order_has_its_own_value():
    remove, add = (
        contour.epsilon_interval(pairs(RUN, order)[0], math.log(1e-5), contour.THOROUGH)
        for order in ("remove", "add")
    )
    assert remove[1] == pytest.approx(TRUTH, rel=1e-9)
    assert add[1] < 0.99 * remove[1]


def test_one_release_of_each_order():
    """One release at sigma 1, rate 0.01, delta 1e-5: 50 digits."""
    (pair, _) = pairs(Poisson(0.01, Gaussian(1.0)), "remove")[0][0]
    lower, upper = single.epsilon_interval(pair, math.log(1e-5))
    assert lower <= 0.19945044779591478 * (1 + 1e-12)
    assert upper >= 0.19945044779591478 * (1 - 1e-12)


def test_few_releases_with_a_heavy_tail():
    """Where the tail of one release matters; truth by an independent contour integral."""
    event = Repeat(Poisson(0.05, Gaussian(0.8)), 50)
    lower, upper = lattice.epsilon_interval(pairs(event, "remove")[0], math.log(1e-6), 1e-4)
    assert lower <= 5.321358804123379 * (1 + 1e-8)
    assert upper >= 5.321358804123379 * (1 - 1e-8)
    assert upper - lower < 1e-3


def delta_of_two(rate, sigma, epsilon):
    """Of two sampled releases, a record removed: the mean over one of the delta of the other."""

    def loss(y):
        return math.log1p(rate * math.expm1(y / sigma - 1 / (2 * sigma**2)))

    def other(left):
        if left <= math.log1p(-rate):
            return -math.expm1(left)
        y = sigma * (math.log((math.expm1(left) + rate) / rate) + 1 / (2 * sigma**2))
        p = (1 - rate) * norm.sf(y) + rate * norm.sf(y - 1 / sigma)
        return p - math.exp(left) * norm.sf(y)

    def inside(y):
        p = (1 - rate) * norm.pdf(y) + rate * norm.pdf(y - 1 / sigma)
        return p * other(epsilon - loss(y))

    cuts = [-40, -8, -2, 0, 2, 4, 5, 5.5, 6, 6.5, 7, 8, 9, 12, 40]
    ends = itertools.pairwise(cuts)
    return sum(quad(inside, *each, epsabs=0, epsrel=1e-10, limit=400)[0] for each in ends)


@pytest.mark.parametrize("epsilon", [0.3, 0.8, 1.5])
def test_releases_that_hardly_ever_read_a_record_against_an_integral(epsilon):
    truth = delta_of_two(6e-7, 0.38, epsilon)
    event = Poisson(6e-7, Gaussian(0.38)) * 2
    lower, upper = delta_bounds(event, epsilon=epsilon, relation="remove", tol=1e-6)
    assert lower <= truth * (1 + 1e-8)
    assert upper >= truth * (1 - 1e-8)
    assert upper - lower <= 1e-4 * truth


@pytest.mark.parametrize("epsilon", [0.4, 1.5, 3.0])
@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_a_record_in_one_of_two_steps_against_an_integral(sigma, epsilon):
    """The mean of two log-normals is above K: the price of an option on one, given the other."""

    def option(strike):
        if strike <= 0:
            return 1 - strike
        d = sigma * -math.log(strike) + 0.5 / sigma
        return norm.cdf(d) - strike * norm.cdf(d - 1 / sigma)

    def given(z):
        ratio = math.exp(z / sigma - 0.5 / sigma**2)
        return norm.pdf(z) * option(2 * math.exp(epsilon) - ratio) / 2

    far = 12 + 1 / sigma
    truth = quad(given, -12, far, points=[0, 1 / sigma], limit=500, epsabs=0, epsrel=1e-11)[0]
    event = RandomAllocation(1, 2, Gaussian(sigma))
    lower, upper = delta_bounds(event, epsilon=epsilon, relation="remove")
    assert lower <= truth * (1 + 1e-9)
    assert truth * (1 - 1e-9) <= upper <= lower * 1.01


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("order", ["remove", "add"])
def test_what_p_and_q_have_in_common_is_never_too_little(order, epsilon):
    """Each order favours one of them, and takes a large epsilon or none at all."""
    (pair, _) = pairs(Poisson(0.99, Gaussian(0.15)), order)[0][0]
    assert log_delta_at_least(((pair, 1),), epsilon) <= single.log_delta_interval(pair, epsilon)[1]
