"""The log moment against 40 digits, and the conversion against its own statement."""

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting.engines.renyi.subsampled_gaussian import (
    log_moment,
    rdp_epsilon,
    rdp_log_delta,
)
from dpfunc.accounting.events.dp_sgd import Phase


def exact_log_moment(sigma, rate, order):
    """By the binomial theorem for an integer order, as Mironov et al. 2019 write it."""
    with mpmath.workdps(60):
        q, s = mpmath.mpf(rate), mpmath.mpf(sigma)
        return mpmath.log(
            mpmath.fsum(
                mpmath.binomial(order, k)
                * (1 - q) ** (order - k)
                * q**k
                * mpmath.exp(mpmath.mpf(k * (k - 1)) / (2 * s * s))
                for k in range(order + 1)
            )
        )


def integrated_log_moment(sigma, rate, order):
    """For any order, by quadrature in 40 digits."""
    with mpmath.workdps(40):
        q, s, a = mpmath.mpf(rate), mpmath.mpf(sigma), mpmath.mpf(order)

        def integrand(x):
            ratio = 1 - q + q * mpmath.exp((2 * x - 1) / (2 * s * s))
            return ratio**a * mpmath.npdf(x, 0, s)

        ends = [-14 * s + (14 * s * 2 + a) * k / 24 for k in range(25)]
        return mpmath.log(mpmath.quad(integrand, ends))


@given(
    sigma=st.floats(math.log(0.25), math.log(50)).map(math.exp),
    rate=st.floats(math.log(1e-7), math.log(0.999)).map(math.exp),
    order=st.integers(2, 120),
)
def test_integer_orders_are_exact_and_never_below(sigma, rate, order):
    exact = exact_log_moment(sigma, rate, order)
    ours = log_moment(sigma, rate, order)
    assert exact <= ours <= exact * (1 + mpmath.mpf("8.1e-9"))


@pytest.mark.parametrize(
    "order", [1.001, 1.5, 2.25, *(pytest.param(a, marks=pytest.mark.nightly) for a in (7.9, 33.3))]
)
@pytest.mark.parametrize(
    ("sigma", "rate"), [(1.0, 0.01), (0.3, 0.001), (5.0, 0.2), (20.0, 0.9), (0.7, 1e-6)]
)
def test_real_orders_are_exact_and_never_below(sigma, rate, order):
    exact = integrated_log_moment(sigma, rate, order)
    ours = log_moment(sigma, rate, order)
    assert exact <= ours <= exact * (1 + mpmath.mpf("8.1e-9"))


def test_without_sampling_it_is_the_gaussian():
    assert log_moment(2.0, 1.0, 5.0) == pytest.approx(5 * 4 / (2 * 4))
    near = log_moment(2.0, 1 - 1e-12, 5.0)
    assert near == pytest.approx(5 * 4 / (2 * 4), rel=1e-8)


def test_no_noise_has_an_infinite_moment():
    assert log_moment(0.0, 0.1, 2.0) == math.inf


def test_the_bound_far_out_joins_the_integral():
    """Past the largest grid a convexity bound takes over; there it is all but exact."""
    sigma, rate = 1e-3, 0.25
    assert log_moment(sigma, rate, 1.5) == pytest.approx(
        math.log(rate) * 1.5 + 1.5 * 0.5 / 2 / sigma**2, rel=1e-5
    )
    assert log_moment(1e6, 1e-3, 1e11) >= 1e11 * (1e11 - 1) / 2e12 + 1e11 * math.log(1e-3)


def test_huge_and_tiny_parameters_neither_overflow_nor_vanish():
    assert 0 < log_moment(1e5, 1e-9, 3.0) < 1e-26
    assert log_moment(0.01, 0.5, 300.0) == pytest.approx(300 * 299 / 2 / 0.01**2, rel=1e-3)


@settings(max_examples=25)
@given(
    sigma=st.floats(0.5, 10),
    rate=st.floats(1e-4, 0.5),
    steps=st.integers(1, 10_000),
    log10_delta=st.floats(-12, -2),
)
def test_epsilon_and_delta_invert_each_other(sigma, rate, steps, log10_delta):
    phases = [Phase(sigma, rate, steps)]
    delta = 10.0**log10_delta
    epsilon = rdp_epsilon(phases, delta)
    if epsilon > 1e-6:
        assert rdp_log_delta(phases, epsilon) == pytest.approx(math.log(delta), rel=1e-4)


def test_the_best_order_is_found():
    """No order of a fine grid does better than the search, by the formula written out again."""
    for sigma, rate, steps, delta in ((1.0, 0.01, 1000, 1e-5), (0.4, 0.01, 100, 1e-6)):
        grid = [
            steps * log_moment(sigma, rate, a) / (a - 1)
            + math.log((a - 1) / a)
            - (math.log(delta) + math.log(a)) / (a - 1)
            for a in (1 + 10 ** (k / 100) for k in range(-100, 200))
        ]
        found = rdp_epsilon([Phase(sigma, rate, steps)], delta)
        assert found <= min(grid) * (1 + 1e-9)
        assert found >= min(grid) * (1 - 1e-3)
