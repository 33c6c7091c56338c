"""Values that other libraries publish or print: the right ones, and the wrong ones by how much.

dp_accounting: 0.6.0, from its own tests where named so, else what it prints. Opacus: 1.6.0, and the
values in its tests. docs/accounting_crosschecks.md tells the reasons.
"""

import math

import pytest

from dpfunc.accounting import (
    DiscreteLaplace,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    Poisson,
    RandomizedResponse,
    TruncatedPoisson,
    WithoutReplacement,
    delta_bounds,
    dp_sgd,
    epsilon_bounds,
)

MIXTURES = MixtureOfGaussians(1.0, (0.0, 1.0, 2.0), (0.2, 0.6, 0.2)) * 3 + (
    MixtureOfGaussians(2.0, (0.0, 2.0, 3.0), (0.33, 0.34, 0.33)) * 2
)
TRUNCATED = (
    TruncatedPoisson(0.5, 2, 4, Gaussian(1.0)) * 3 + TruncatedPoisson(0.5, 2, 3, Gaussian(1.0)) * 2
)
OPACUS = dp_sgd(noise_multiplier=1.5, sample_rate=0.04, steps=2250)


@pytest.mark.parametrize(
    ("event", "relation", "delta", "published", "within"),
    [
        # dp_accounting's own tests
        (MIXTURES, "add_or_remove", 1e-6, 17.193115, 1e-6),
        (Laplace(1.0) * 3 + Laplace(2.0) * 2, "add_or_remove", 1e-14, 4.0, 1e-6),
        (Poisson(0.2, Laplace(0.5)) * 3, "add_or_remove", 1e-14, 2.46964, 1e-3),
        (DiscreteLaplace(1.0, 1) * 3 + DiscreteLaplace(0.5, 1) * 2, "remove", 1e-14, 4.0, 1e-6),
        (RandomizedResponse(4 / (3 + math.e), 4), "replace_one", 1e-14, 1.0, 1e-7),
        (RandomizedResponse((4 - math.e) / 3, 4), "zero_out", 1e-14, 1.0, 1e-7),
        (RandomizedResponse(math.exp(-1), 2), "zero_out", 1e-14, 1.0, 1e-7),
        (Poisson(0.2, Gaussian(0.5)) * 3, "add_or_remove", 0.15593277616591078, 1.0, 1e-4),
        # what it prints at a grid of 1e-5
        (Gaussian(1.0), "replace_one", 1e-5, 9.99725615, 1e-6),
        (Poisson(0.1, Laplace(1.0)) * 50, "add_or_remove", 1e-5, 2.83386010, 2e-5),
        (Laplace(2.0) * 100, "add_or_remove", 1e-6, 30.48372633, 2e-5),
        (Laplace(1.0) * 10, "add_or_remove", 1e-6, 9.99897809, 1e-6),
    ],
    ids=repr,
)
def test_values_that_are_right(event, relation, delta, published, within):
    lower, upper = epsilon_bounds(event, delta=delta, relation=relation)
    assert lower <= published * (1 + within)
    assert upper == pytest.approx(published, rel=within + 2e-5)


def test_a_delta_that_is_right():
    found = delta_bounds(Gaussian(math.sqrt(3)) * 3, epsilon=1.0)
    assert found.upper == pytest.approx(0.126936, abs=1e-6)


@pytest.mark.parametrize(
    ("event", "relation", "delta", "published"),
    [
        # dp_accounting: the count of randomized responses is lost
        (RandomizedResponse(0.5, 2) * 100, "replace_one", 1e-6, 1.0986986666657776),
        # dp_accounting: no factor 2 under replacement in Renyi DP
        (Gaussian(1.0), "replace_one", 1e-5, 4.728507067217623),
        # dp_accounting: an FFT whose rounding drowns small deltas
        (
            dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=10_000),
            "add_or_remove",
            1e-12,
            10.298822461444551,
        ),
        # dp_accounting, Renyi DP of fixed-size batches: the factor 2 again. The data set in which x
        # is replaced by the twin of all others has the curve of adding and removing.
        (WithoutReplacement(10, 1000, Gaussian(1.0)) * 1000, "add_or_remove", 1e-5, 3.57611148),
        # Opacus: the central limit theorem is not a bound
        (OPACUS, "add_or_remove", 1e-5, 6.6015670901582295),
    ],
    ids=repr,
)
def test_values_that_claim_too_little(event, relation, delta, published):
    assert epsilon_bounds(event, delta=delta, relation=relation).lower > published * 1.001


@pytest.mark.parametrize(
    ("event", "delta", "published", "excess"),
    [
        (OPACUS, 1e-5, 7.32911117143, 0.08),  # Opacus, Renyi DP, its tests
        (OPACUS, 1e-5, 6.7791320762541165, 1.5e-3),  # Opacus, PRV
        (TRUNCATED, 1e-6, 17.904330, 0.09),  # dp_accounting's tests: replacement where x is cut in
    ],
    ids=["renyi", "prv", "truncated"],
)
def test_values_that_are_bounds_with_room(event, delta, published, excess):
    lower, upper = epsilon_bounds(event, delta=delta)
    assert lower < published
    assert published / upper - 1 == pytest.approx(excess, rel=0.5)


def test_no_noise_on_a_sample_shows_the_record_as_often_as_it_is_read():
    """dp_accounting's tests: delta = 1 at rate 0.1."""
    assert delta_bounds(Poisson(0.1, Gaussian(0.0)), epsilon=1.0).upper == pytest.approx(0.1)


def test_no_decay_is_endless_noise():
    """dp_accounting's tests: delta = 1; but the curve goes to 0 with the decay."""
    for decay in (1e-3, 1e-6):
        found = delta_bounds(DiscreteLaplace(decay, 1), epsilon=0.0)
        assert found.upper == pytest.approx(math.tanh(decay / 2), rel=1e-6)
    assert delta_bounds(DiscreteLaplace(0.0, 1), epsilon=0.0).upper == 0.0
