"""The closed form against 60 digits."""

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting.pairs.gaussian import gaussian_epsilon, gaussian_log_delta

MU = st.floats(-3, 2).map(lambda e: 10.0**e)


def exact_delta(mu, epsilon):
    with mpmath.workdps(60):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        lost = mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)
        return mpmath.ncdf(mu / 2 - epsilon / mu) - lost


@settings(max_examples=500)
@given(MU, st.floats(0, 30))
def test_delta_lies_between_its_bounds(mu, scale):
    epsilon = scale * mu
    exact = exact_delta(mu, epsilon)
    if exact < 1e-300:
        return
    lower, upper = gaussian_log_delta(mu, epsilon)
    with mpmath.workdps(60):
        assert lower <= mpmath.log(exact) <= upper
    assert upper - lower <= 2e-8


@settings(max_examples=300)
@given(MU, st.floats(-300, -0.1))
def test_epsilon_lies_between_its_bounds(mu, log10_delta):
    delta = 10.0**log10_delta
    lower, upper = gaussian_epsilon(mu, math.log(delta))
    slack = 1 + 1e-12  # the logarithm of delta is rounded
    assert exact_delta(mu, upper) <= delta * slack
    assert lower == 0 or exact_delta(mu, lower) >= delta / slack
    assert upper - lower <= 1e-9 * (1 + upper)


@pytest.mark.parametrize(
    ("mu", "delta", "epsilon"),
    [(1.0, 1e-5, 4.3771780956812245), (2.0, 1e-12, 15.641125779460989)],
)
def test_reference_values(mu, delta, epsilon):
    lower, upper = gaussian_epsilon(mu, math.log(delta))
    assert lower <= epsilon * (1 + 2e-16)
    assert upper >= epsilon * (1 - 2e-16)
    assert upper - lower < 1e-12


@pytest.mark.parametrize("mu", [1e3, 1e6, 1e12])
@pytest.mark.parametrize("delta", [1e-300, 1e-5, 0.999999])
def test_huge_mu(mu, delta):
    lower, upper = gaussian_epsilon(mu, math.log(delta))
    assert lower <= upper
    assert upper == pytest.approx(mu * mu / 2, rel=0.5)
    assert gaussian_log_delta(mu, 0.0)[1] == pytest.approx(0, abs=1e-12)


def test_edges():
    assert gaussian_log_delta(0.0, 1.0) == (-math.inf, -math.inf)
    assert gaussian_log_delta(1.0, math.inf) == (-math.inf, -math.inf)
    assert gaussian_epsilon(0.0, math.log(1e-5)) == (0.0, 0.0)
    assert gaussian_epsilon(1e-9, math.log(1e-5)) == (0.0, 0.0)
    assert gaussian_epsilon(math.inf, math.log(1e-5)) == (math.inf, math.inf)
