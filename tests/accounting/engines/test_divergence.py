"""Renyi divergences against closed forms, quadrature and the moments of random mechanisms."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    NonPrivate,
    Poisson,
    PureDP,
    RandomizedResponse,
    WithoutReplacement,
    rdp,
)

ORDERS = [1.001, 1.5, 2.0, 8.0, 100.0]


@pytest.mark.parametrize("order", ORDERS)
def test_closed_forms(order):
    assert rdp(Gaussian(2.0) * 3, order=order) == pytest.approx(3 * order / 8, rel=1e-8)
    replaced = rdp(Gaussian(2.0), order=order, relation="replace_one")
    assert replaced == pytest.approx(order / 2, rel=1e-8)
    assert rdp(Group(3, Gaussian(2.0)), order=order) == pytest.approx(9 * order / 8, rel=1e-8)
    assert rdp(ZCDP(0.1, 0.2) * 2, order=order) == pytest.approx(0.4 + 0.2 * order, rel=1e-10)
    assert rdp(DiscreteGaussian(4.0, 2), order=order) == pytest.approx(order / 8, rel=1e-10)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [0.3, 1.0, 20.0])
def test_laplace(order, scale):
    """Mironov 2017, proposition 6."""
    with mpmath.workdps(40):
        a, b = mpmath.mpf(order), mpmath.mpf(scale)
        up = a / (2 * a - 1) * mpmath.exp((a - 1) / b)
        down = (a - 1) / (2 * a - 1) * mpmath.exp(-a / b)
        exact = float(mpmath.log(up + down) / (a - 1))
    ours = rdp(Laplace(scale), order=order)
    assert exact <= ours <= exact * (1 + 1e-5) + 2e-12 / (order - 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_pure_dp_is_randomized_response(order, epsilon):
    """Mironov 2017, proposition 5."""
    with mpmath.workdps(40):
        a, p = mpmath.mpf(order), 1 / (1 + mpmath.exp(-mpmath.mpf(epsilon)))
        moment = p**a * (1 - p) ** (1 - a) + (1 - p) ** a * p ** (1 - a)
        exact = float(mpmath.log(moment) / (a - 1))
    for event in (PureDP(epsilon), DiscreteLaplace(epsilon, 1)):
        ours = rdp(event, order=order)
        assert exact * (1 - 1e-13) <= ours <= exact * (1 + 1e-9) + 2e-12 / (order - 1)
    assert rdp(PureDP(epsilon), order=order) <= epsilon * (1 + 1e-9) + 2e-12 / (order - 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_the_exponential_mechanism_has_the_rho_of_its_range(order, epsilon):
    """Cesar and Rogers 2021: ``epsilon**2 / 8``. Ours is of the worst case at every order."""
    ours = rdp(ExponentialMechanism(epsilon), order=order)
    assert ours <= epsilon * (1 + 1e-9)
    worst = 0.0
    for top in np.linspace(0, epsilon, 501)[1:-1]:
        likely = -math.expm1(top - epsilon) / -math.expm1(-epsilon)
        moment = likely * math.exp((order - 1) * top)
        moment += (1 - likely) * math.exp((order - 1) * (top - epsilon))
        worst = max(worst, math.log(moment) / (order - 1))
    assert worst <= ours * (1 + 1e-9)


@pytest.mark.parametrize("relation", ["add_or_remove", "replace_one"])
@pytest.mark.parametrize("order", [1.5, 2.0, 8.0])
def test_sampled_noise_by_quadrature(relation, order):
    """Both orders of the data sets, by the trapezoid rule."""
    y, q = np.linspace(-25, 25, 200_001), 0.1
    for kind, density in (
        (Gaussian, lambda y: np.exp(-y * y / 2) / math.sqrt(2 * math.pi)),
        (Laplace, lambda y: np.exp(-abs(y)) / 2),
    ):
        p = (1 - q) * density(y) + q * density(y - 1)
        q_ = density(y)
        if relation == "replace_one":
            q_ = (1 - q) * density(y) + q * density(y + 1)
        both = [np.trapezoid(a * (a / b) ** (order - 1), y) for a, b in ((p, q_), (q_, p))]
        exact = math.log(max(both)) / (order - 1)
        ours = rdp(Poisson(q, kind(1.0)) * 7, order=order, relation=relation) / 7
        assert exact * (1 - 1e-5) <= ours <= exact * (1 + 1e-4)


@settings(max_examples=30)
@given(st.floats(1.01, 50), st.floats(0.001, 1), st.floats(0.1, 3))
def test_sampling_never_costs(order, rate, noise):
    for mechanism in (Laplace(noise), PureDP(1 / noise), ExponentialMechanism(1 / noise)):
        sampled = rdp(Poisson(rate, mechanism), order=order)
        assert 0 <= sampled <= rdp(mechanism, order=order) * (1 + 1e-6) + 1e-10 / (order - 1)


@settings(max_examples=30)
@given(st.floats(1.01, 40), st.floats(1.0, 2.0))
def test_divergence_grows_with_the_order(order, factor):
    for event in (Poisson(0.1, Laplace(1.0)), Poisson(0.1, Gaussian(1.0)), PureDP(1.0)):
        more = rdp(event, order=1 + (order - 1) * factor)
        assert rdp(event, order=order) <= more * (1 + 1e-4) + 1e-9


def test_an_infinite_loss_is_an_infinite_divergence():
    for event in (NonPrivate(), ApproxDP(0.1, 1e-9), Gaussian(0.0), Laplace(0.0)):
        assert rdp(event, order=2.0) == math.inf
        assert rdp(Poisson(0.1, event), order=2.0) == math.inf
    assert rdp(RandomizedResponse(0.0, 2), order=2.0, relation="replace_one") == math.inf


def test_groups_of_concentrated_dp():
    """Bun and Steinke 2016: rho grows with the square, xi with k times a harmonic number."""
    ours = rdp(Group(3, ZCDP(0.1, 0.6)), order=2.0)
    assert ours == pytest.approx(0.6 * 3 * (1 + 1 / 2 + 1 / 3) + 0.1 * 9 * 2)


def test_fixed_size_batches():
    event = WithoutReplacement(10, 1000, Gaussian(2.0))
    with pytest.raises(ValueError, match="no bound on the moments"):
        rdp(event, order=2.0, relation="replace_one")
    assert 0 < rdp(event, order=2.0) < rdp(Poisson(0.01, Gaussian(0.9)), order=2.0)


@pytest.mark.parametrize("bad", [1.0, 0.5, math.inf, math.nan, "2", None])
def test_a_bad_order_is_refused(bad):
    with pytest.raises(ValueError, match="rdp: expected a finite order > 1"):
        rdp(Gaussian(1.0), order=bad)


def test_what_has_no_proof_is_refused():
    with pytest.raises(ValueError, match="no bound is proven"):
        rdp(Poisson(0.1, ZCDP(0.1)), order=2.0)


def test_a_mixture_out_of_reach_is_averaged_over_its_components():
    """Joint convexity: against sums over the integers, and where quadrature has no grid."""
    from dpfunc.accounting import ZCDP, DiscreteGaussian, MixtureOfGaussians, delta

    k, order, q = np.arange(-35, 40), 3.0, 0.1
    noise = np.exp(-((k / 2.0) ** 2) / 2)
    mixed = (1 - q) * noise + q * np.exp(-(((k - 2) / 2.0) ** 2) / 2)
    exact = math.log((mixed**order * noise ** (1 - order)).sum() / noise.sum()) / (order - 1)
    found = rdp(Poisson(q, DiscreteGaussian(2.0, 2)), order=order, relation="remove")
    assert exact <= found < rdp(DiscreteGaussian(2.0, 2), order=order)
    event = MixtureOfGaussians(0.158, (3.0, 1.0), (0.4, 0.6)) + ZCDP(0.1)
    assert 0 < delta(event, epsilon=200.0) <= 1
