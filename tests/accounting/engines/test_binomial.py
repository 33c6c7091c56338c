"""The binomial law against sums of 50 digits."""

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting.engines.finite.binomial import two_losses
from dpfunc.accounting.engines.finite.law import epsilon_interval, log_delta_interval
from dpfunc.accounting.pairs.combine import sampled
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, approximate_dp, randomized_response


def exact_delta(pair, times, epsilon):
    """The sum over all outcomes, in 50 digits, from the atoms as they are in float64."""
    with mpmath.workdps(50):
        (low, p_low, _), (high, p_high, _) = (v for v in pair.values if math.isfinite(v[0]))
        share = mpmath.mpf(p_high) / (mpmath.mpf(p_low) + mpmath.mpf(p_high))
        kept = (1 - mpmath.fsum(p for loss, p, _ in pair.values if loss == math.inf)) ** times
        total = 1 - kept
        for k in range(times + 1):
            loss = (times - k) * mpmath.mpf(low) + k * mpmath.mpf(high)
            if loss > epsilon:
                weight = mpmath.binomial(times, k) * (1 - share) ** (times - k) * share**k
                total += kept * weight * (1 - mpmath.exp(epsilon - loss))
        return total


PAIRS = [
    approximate_dp(0.1, 0.0),
    approximate_dp(1.0, 1e-7),
    randomized_response(0.4, 2),
    sampled(approximate_dp(1.0, 0.0), 0.1, adds=False),
    sampled(approximate_dp(1.0, 0.0), 0.1, adds=True),
]


@settings(max_examples=50)
@given(st.sampled_from(PAIRS), st.integers(1, 60), st.floats(0, 0.999))
def test_delta_is_between_the_bounds_and_they_are_close(pair, times, where):
    law = two_losses(pair, times)
    epsilon = where * float(law.losses[-1])
    lower, upper = log_delta_interval(law, epsilon)
    exact = float(mpmath.log(exact_delta(pair, times, epsilon)))
    assert lower <= exact <= upper
    # Near its largest value delta is steep: a shift of the losses by rounding shows.
    gap = float(law.losses[-1]) - epsilon
    assert upper - lower < 1e-9 + 1e-9 / gap


@pytest.mark.parametrize(
    ("epsilon", "times", "delta", "expected"),
    [  # 50 digits
        (0.1, 100, 1e-6, 4.774567588108),
        (0.5, 30, 1e-6, 13.952007539474),
        (1.0, 20, 1e-9, 19.999999474035),
    ],
)
def test_published_values(epsilon, times, delta, expected):
    lower, upper = epsilon_interval(
        two_losses(approximate_dp(epsilon, 0.0), times), math.log(delta)
    )
    assert lower <= expected * (1 + 1e-12)
    assert upper == pytest.approx(expected, rel=1e-12)
    assert upper - lower < 1e-9


@settings(max_examples=25)
@given(st.sampled_from(PAIRS), st.integers(1, 60), st.floats(-30, -0.5))
def test_epsilon_inverts_delta(pair, times, log_delta):
    law = two_losses(pair, times)
    lower, upper = epsilon_interval(law, log_delta)
    assert 0 <= lower <= upper
    if upper == math.inf:
        assert exact_delta(pair, times, 1e6) >= mpmath.exp(log_delta) * (1 - mpmath.mpf("1e-13"))
        return
    target = mpmath.exp(mpmath.mpf(log_delta))
    assert exact_delta(pair, times, upper) <= target * (1 + mpmath.mpf("1e-13"))
    assert lower == 0 or exact_delta(pair, times, lower) >= target * (1 - mpmath.mpf("1e-13"))
    assert upper - lower <= 1e-8 * (1 + upper)


def test_a_million_releases():
    law = two_losses(approximate_dp(1e-3, 0.0), 10**6)
    lower, upper = epsilon_interval(law, math.log(1e-6))
    assert 0 < lower <= upper
    assert upper - lower < 1e-6 * upper
    # mean + 4.x standard deviations of a sum of a million losses of +-1e-3
    assert 4.0 < upper < 5.5


def test_pairs_of_other_losses_are_left_to_other_engines():
    assert two_losses(FiniteLoss(((0.0, 1.0, 1.0),)), 5) is None
    assert two_losses(randomized_response(0.4, 3), 5) is None
    assert two_losses(approximate_dp(0.1, 0.0), 10**9) is None


def test_what_is_lost_outright():
    law = two_losses(approximate_dp(0.1, 0.01), 10)
    assert math.exp(log_delta_interval(law, 5.0)[1]) == pytest.approx(1 - 0.99**10, rel=1e-12)
    assert epsilon_interval(law, math.log(0.09)) == (math.inf, math.inf)
    assert epsilon_interval(law, math.log(0.2))[1] < 1.0
