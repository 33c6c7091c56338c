"""The four tests of what was released: their p-values are those of the accountant's own pair."""

import mpmath
import numpy as np
import pytest
from scipy.stats import binom

from dpfunc.audit.canaries import release
from dpfunc.audit.canaries.release import four_tests, lag_test, spread_test
from tests.audit.null import most_errors

# steps, canaries, noise, rate: few steps of little noise are the farthest from normal sums.
NULLS = {
    "one-step": (1, 60, 0.3, 0.05),
    "three-steps": (3, 60, 0.3, 0.02),
    "some-steps": (20, 40, 0.5, 0.05),
    "everyone-in-each": (6, 40, 2.0, 1.0),
}
COUNT, AT_NIGHT, LEVELS = 400, 2000, (0.05, 0.01)


def drawn(rng, steps, canaries, sigma, rate):
    is_in = np.arange(canaries) < canaries // 2
    taken = is_in * (rng.random((steps, canaries)) < rate)
    return taken + sigma * rng.normal(size=(steps, canaries)), is_in


def errors(case, count, test):
    """How many of ``count`` runs that are what the event says ``test`` refutes, at each level."""
    rng = np.random.default_rng(11)
    steps, canaries, sigma, rate = NULLS[case]
    runs = (drawn(rng, steps, canaries, sigma, rate) for _ in range(count))
    found = [test(values, is_in, sigma, rate) for values, is_in in runs]
    return [sum(p <= level for p in found) for level in LEVELS]


def of(name):
    """One of the four, of values in units of the bound."""
    quick = {"spread": spread_test, "lag": lag_test}
    if name in quick:
        return lambda values, is_in, sigma, rate: quick[name](values / sigma, is_in, sigma, rate)
    return lambda *run: four_tests(*run)[name]


@pytest.mark.parametrize("test", ["spread", "lag"])
@pytest.mark.parametrize("case", NULLS)
def test_a_true_release_is_seldom_refuted(case, test):
    for wrong, level in zip(errors(case, COUNT, of(test)), LEVELS, strict=True):
        assert wrong <= most_errors(COUNT, level)


@pytest.mark.nightly
@pytest.mark.parametrize("test", ["in", "out", "spread", "lag"])
@pytest.mark.parametrize("case", NULLS)
def test_a_true_release_is_seldom_refuted_in_full(case, test):
    for wrong, level in zip(errors(case, AT_NIGHT, of(test)), LEVELS, strict=True):
        assert wrong <= most_errors(AT_NIGHT, level)


@pytest.mark.parametrize("sum_", [-60.0, -3.0, 0.1, 2.5, 90.0])
def test_a_sum_is_put_through_its_own_law(sum_):
    """By 60 digits: a tail of the number is that of the sum."""
    steps, sigma, rate = 7, 0.4, 0.2
    (found,) = release._normal(np.array([sum_]), np.array([True]), steps, sigma, rate)
    with mpmath.workdps(60):
        side = 1 if sum_ > 3 else -1  # of the law's mean
        tail = sum(
            binom.pmf(k, steps, rate)
            * mpmath.ncdf(-side * (sum_ - k / mpmath.mpf(sigma)) / mpmath.sqrt(steps))
            for k in range(steps + 1)
        )
        ratio = mpmath.log(mpmath.ncdf(-side * found)) / mpmath.log(tail)
    assert float(ratio) == pytest.approx(1, rel=1e-12)


def test_successive_steps_that_share_noise_are_seen_and_one_step_has_none():
    rng = np.random.default_rng(3)
    values, is_in = drawn(rng, 20, 50, 1.0, 0.1)
    again = np.repeat(values[::2], 2, axis=0)
    assert four_tests(again, is_in, 1.0, 0.1)["lag"] < 1e-20
    assert four_tests(values[:1], is_in, 1.0, 0.1)["lag"] == 1.0


def test_records_that_count_double_are_seen():
    values, is_in = drawn(np.random.default_rng(4), 40, 200, 0.5, 0.2)
    doubled = values + (np.arange(200) < 20) * np.rint(np.clip(values, 0, 1)) * is_in
    assert four_tests(doubled, is_in, 0.5, 0.2)["spread"] < 1e-4
