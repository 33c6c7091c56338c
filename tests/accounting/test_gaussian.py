"""The closed form against 60 digits."""

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting.gaussian import gaussian_delta, gaussian_epsilon

MU = st.floats(-3, 2).map(lambda e: 10.0**e)


def exact_delta(mu, epsilon):
    with mpmath.workdps(60):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        lost = mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)
        return mpmath.ncdf(mu / 2 - epsilon / mu) - lost


@settings(max_examples=500)
@given(MU, st.floats(0, 30))
def test_delta_is_exact_and_never_below(mu, scale):
    epsilon = scale * mu
    exact = exact_delta(mu, epsilon)
    if exact < 1e-300:
        return
    ours = gaussian_delta(mu, epsilon)
    assert exact <= ours <= exact * (1 + mpmath.mpf("1e-8"))


@settings(max_examples=300)
@given(MU, st.floats(-300, -0.1))
def test_epsilon_inverts_delta_and_is_never_below(mu, log10_delta):
    delta = 10.0**log10_delta
    epsilon = gaussian_epsilon(mu, delta)
    assert exact_delta(mu, epsilon) <= delta
    if epsilon > 0:
        assert exact_delta(mu, epsilon * (1 - 1e-9) - 1e-9) > delta


@pytest.mark.parametrize(
    ("mu", "delta", "epsilon"),
    [(1.0, 1e-5, 4.3771780956812245), (2.0, 1e-12, 15.641125779460989)],
)
def test_reference_values(mu, delta, epsilon):
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-11)


@pytest.mark.parametrize("mu", [1e3, 1e6, 1e12])
@pytest.mark.parametrize("delta", [1e-300, 1e-5, 0.999999])
def test_huge_mu(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)
    assert epsilon == pytest.approx(mu * mu / 2, rel=0.5)
    assert gaussian_delta(mu, 0.0) == 1.0


def test_edges():
    assert gaussian_delta(0.0, 1.0) == 0.0
    assert gaussian_delta(1.0, math.inf) == 0.0
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-9, 1e-5) == 0.0
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
