"""Epsilon and delta of questions that were refused, loose or wrong: against sums of 40 digits."""

import math
import warnings

import mpmath
import numpy as np
import pytest

from dpfunc.accounting import (
    ApproxDP,
    Bounds,
    Compose,
    DiscreteGaussian,
    DiscreteLaplace,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    PureDP,
    RandomAllocation,
    RandomizedResponse,
    bayes_risk,
    delta,
    delta_bounds,
    dp_sgd,
    epsilon,
    epsilon_bounds,
    tradeoff,
    tradeoff_curve,
)


def power(masses, times):
    """The law of a sum of independent losses on ``{index: probability}``, in mpmath."""
    total = {0: mpmath.mpf(1)}
    for _ in range(times):
        after = {}
        for i, p in total.items():
            for j, q in masses.items():
                after[i + j] = after.get(i + j, 0) + p * q
        total = after
    return total


def exact_delta(masses, step, times, e):
    """Of losses ``index * step``."""
    return mpmath.fsum(
        p * (1 - mpmath.exp(e - i * step)) for i, p in power(masses, times).items() if i * step > e
    )


@pytest.mark.parametrize(
    ("p", "values", "times", "e"), [(0.8, 4, 20, 6.0), (0.9, 10, 30, 3.0), (0.5, 3, 60, 2.0)]
)
def test_randomized_response_over_many_values_is_exact(p, values, times, e):
    with mpmath.workdps(40):
        other = mpmath.mpf(p) / values
        own = 1 - mpmath.mpf(p) + other
        masses = {1: own, -1: other, 0: 1 - own - other}
        exact = exact_delta(masses, mpmath.log(own / other), times, mpmath.mpf(e))
        found = delta_bounds(
            RandomizedResponse(p, values) * times, epsilon=e, relation="replace_one"
        )
        assert found.lower <= exact <= found.upper
        assert found.upper <= exact * (1 + mpmath.mpf("1e-9"))


def test_sampled_discrete_laplace_has_two_losses():
    a, q, times, e = 3.0, 0.1, 20, 9.0
    with mpmath.workdps(40):
        a, q = mpmath.mpf(a), mpmath.mpf(q)
        up, down = 1 / (1 + mpmath.exp(-a)), mpmath.exp(-a) / (1 + mpmath.exp(-a))
        p_high = (1 - q) * down + q * up
        high, low = mpmath.log(p_high / down), mpmath.log((1 - p_high) / up)
        exact = mpmath.fsum(
            mpmath.binomial(times, k)
            * p_high**k
            * (1 - p_high) ** (times - k)
            * (1 - mpmath.exp(e - loss))
            for k in range(times + 1)
            if (loss := k * high + (times - k) * low) > e
        )
        event = Poisson(0.1, DiscreteLaplace(3.0, 1)) * 20
        found = delta_bounds(event, epsilon=e, relation="remove")
        assert found.lower <= exact <= found.upper <= exact * (1 + mpmath.mpf("1e-9"))


@pytest.mark.parametrize(("d", "times"), [(1e-6, 1000), (1e-12, 10**6), (0.3, 3)])
def test_what_is_lost_outright_adds_up(d, times):
    exact = -mpmath.expm1(times * mpmath.log1p(-mpmath.mpf(d)))
    lower, upper = delta_bounds(ApproxDP(0.0, d) * times, epsilon=0.0)
    assert lower <= exact <= upper <= exact * (1 + mpmath.mpf("1e-12"))
    assert epsilon(ApproxDP(0.0, d) * times, delta=float(exact) * 1.01) == 0
    assert tuple(epsilon_bounds(ApproxDP(0.0, d) * times, delta=float(exact) * 0.99)) == (
        math.inf,
        math.inf,
    )


@pytest.mark.parametrize(("b", "d", "e"), [(0.5, 1e-5, 1.99999), (2.0, 1e-9, 0.499), (1, 1e-4, 1)])
def test_a_promise_at_epsilon_0_beside_another_release(b, d, e):
    exact = d + (1 - d) * max(0.0, -math.expm1((e - 1 / b) / 2))
    lower, upper = delta_bounds(Laplace(b) + ApproxDP(0.0, d), epsilon=e)
    assert lower <= exact * (1 + 1e-12)
    assert exact * (1 - 1e-12) <= upper <= exact * (1 + 1e-6)


def test_a_promise_at_epsilon_0_beside_another_release_counts_each_time():
    d, e = 1e-6, 0.4
    lost = -math.expm1(300 * math.log1p(-d))
    exact = lost + (1 - lost) * -math.expm1((e - 0.5) / 2)
    lower, upper = delta_bounds(Laplace(2.0) + ApproxDP(0.0, d) * 300, epsilon=e)
    assert lower <= exact * (1 + 1e-12)
    assert exact * (1 - 1e-12) <= upper <= exact * (1 + 1e-6)


@pytest.mark.parametrize(
    ("event", "d", "relation"),
    [
        (DiscreteLaplace(0.04907092071858581, 1) * 2, 5.589e-7, "replace_one"),
        (DiscreteLaplace(0.0164845, 1) * 13 + Poisson(1e-8, PureDP(1.0)), 3.5e-14, "remove"),
        (Laplace(1.0) * 5, 1e-12, "remove"),
        (Laplace(0.001) * 2, 1e-12, "remove"),  # out of reach of all engines but moments
    ],
)
def test_never_above_the_sum_of_the_largest_losses(event, d, relation):
    most = epsilon(event, delta=0.0, relation=relation)
    assert epsilon(event, delta=d, relation=relation) <= most
    assert delta(event, epsilon=most, relation=relation) == 0


@pytest.mark.parametrize(
    "event",
    [
        dp_sgd(noise_multiplier=0.05, sample_rate=0.01, steps=100),
        dp_sgd(noise_multiplier=1e-7, sample_rate=0.01, steps=1000),
        dp_sgd(noise_multiplier=0.02, sample_rate=1e-6, steps=50),
        Poisson(0.025, DiscreteGaussian(2.0, 2)) * 9,
        MixtureOfGaussians(0.158, (3.0, 1.0), (0.4, 0.6)) * 6,
    ],
    ids=repr,
)
def test_an_answer_and_no_warning_where_noise_is_small(event):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower, upper = epsilon_bounds(event, delta=1e-5)
        assert 0 <= lower <= upper < math.inf
        assert delta(event, epsilon=upper, tol=1e-2) <= 1e-5 * 1.3


@pytest.mark.parametrize(("steps", "sigma"), [(2, 1.0), (3, 0.5), (5, 2.0)])
@pytest.mark.parametrize("relation", ["remove", "add"])
def test_a_random_allocation_to_few_steps_by_simulation(steps, sigma, relation):
    """Delta by draws of the ratio, the mean of log-normals: within five standard errors."""
    rng = np.random.default_rng(3)
    x = np.exp(rng.standard_normal((400_000, steps)) / sigma - 0.5 / sigma**2).mean(axis=1)
    gain = (
        np.maximum(x - math.exp(0.5), 0)
        if relation == "remove"
        else np.maximum(1 - math.exp(0.5) * x, 0)
    )
    lower, upper = delta_bounds(
        RandomAllocation(1, steps, Gaussian(sigma)), epsilon=0.5, relation=relation
    )
    error = 5 * gain.std() / math.sqrt(len(gain))
    assert lower <= gain.mean() + error
    assert upper >= gain.mean() - error
    assert 0 < upper - lower <= 1e-3 * upper


@pytest.mark.parametrize("prior", [0.1, 0.8])
@pytest.mark.parametrize("relation", ["add", "remove"])
def test_bayes_risk_by_quadrature(prior, relation):
    """The record is there with the prior: whichever order is named, these are two densities."""
    sigma, rate, y = 0.4, 0.3, np.linspace(-5, 7, 200_001)
    normal = [
        np.exp(-(((y - m) / sigma) ** 2) / 2) / sigma / math.sqrt(2 * math.pi) for m in (0, 1)
    ]
    there = (1 - rate) * normal[0] + rate * normal[1]
    exact = np.trapezoid(np.minimum(prior * there, (1 - prior) * normal[0]), y)
    found = bayes_risk(Poisson(rate, Gaussian(sigma)), prior=prior, relation=relation)
    assert found == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 1e-3, 0.05, 0.3, 0.9])
def test_the_tradeoff_of_laplace_noise_has_its_corner(alpha):
    e = math.e
    exact = (
        1 - e * alpha
        if alpha < 1 / (2 * e)
        else (1 / (4 * e * alpha) if alpha <= 0.5 else (1 - alpha) / e)
    )
    found = tradeoff(Laplace(1.0), alpha=alpha)
    assert found <= exact + 1e-15
    assert 1 - found <= (1 - exact) * (1 + 1e-6) + 1e-15


def test_the_curve_is_the_rates_one_by_one():
    alphas = [0.3, 1e-3, 1.0, 0.0]
    found = tradeoff_curve(Gaussian(1.0), alphas)
    each = [tradeoff(Gaussian(1.0), alpha=alpha) for alpha in alphas]
    assert found == pytest.approx(each, rel=1e-6)
    assert len(tradeoff_curve(Gaussian(1.0), [])) == 0
    with pytest.raises(ValueError, match="tradeoff_curve: expected an alpha"):
        tradeoff_curve(Gaussian(1.0), [0.5, 1.5])


def test_numbers_of_numpy_are_pythons():
    event = Poisson(np.float32(0.5), Gaussian(np.float64(2.0))) * np.int64(3)
    assert event == Poisson(0.5, Gaussian(2.0)) * 3
    assert type(event.event.sample_rate) is float
    assert epsilon(event, delta=np.float64(1e-5)) == epsilon(event, delta=1e-5)
    assert epsilon(Gaussian(np.array(1.0)), delta=1e-5) == epsilon(Gaussian(1.0), delta=1e-5)


def test_delta_above_1_is_refused():
    for value in (1.5, math.inf, -1e-9, math.nan):
        with pytest.raises(ValueError, match="a probability 0 <= delta <= 1"):
            epsilon(Gaussian(1.0), delta=value)
    assert epsilon(Gaussian(1.0), delta=1.0) == 0


def test_bounds_are_read_by_place_and_by_name():
    bounds = Bounds(1.0, 1.5, "contour")
    assert (bounds[0], bounds[1], bounds[-1], len(bounds)) == (1.0, 1.5, 1.5, 2)
    assert epsilon_bounds(Compose(()), delta=1e-5)[1] == 0.0
