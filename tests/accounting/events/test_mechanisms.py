"""What each description refuses."""

import math

import pytest

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PureDP,
    RandomizedResponse,
)


@pytest.mark.parametrize(
    "make",
    [
        Gaussian,
        Laplace,
        ExponentialMechanism,
        PureDP,
        ZCDP,
        lambda bad: ZCDP(1.0, bad),
        lambda bad: MixtureOfGaussians(bad, (1.0,), (1.0,)),
        lambda bad: DiscreteGaussian(bad, 1),
        lambda bad: DiscreteLaplace(bad, 1),
        lambda bad: ApproxDP(bad, 0.0),
    ],
)
@pytest.mark.parametrize("bad", [-1.0, -math.inf, math.nan, "1", None, True])
def test_a_bad_number_is_refused(make, bad):
    with pytest.raises(ValueError, match=r"expected \w+ >= 0 but got"):
        make(bad)


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan, math.inf])
def test_a_bad_probability_is_refused(bad):
    with pytest.raises(ValueError, match="a probability 0 <= noise_probability <= 1"):
        RandomizedResponse(bad, 2)
    with pytest.raises(ValueError, match="a probability 0 <= delta <= 1"):
        ApproxDP(1.0, bad)


@pytest.mark.parametrize("bad", [0, -1, 1.0, math.inf, True])
def test_a_bad_count_is_refused(bad):
    with pytest.raises(ValueError, match="an int sensitivity >= 1"):
        DiscreteGaussian(1.0, bad)
    with pytest.raises(ValueError, match="an int sensitivity >= 1"):
        DiscreteLaplace(1.0, bad)
    with pytest.raises(ValueError, match="an int values >= 1"):
        RandomizedResponse(0.5, bad)


@pytest.mark.parametrize(
    ("shifts", "weights", "message"),
    [
        ((), (), "a tuple of shifts"),
        ([1.0], (1.0,), "a tuple of shifts"),
        ((-1.0,), (1.0,), "a tuple of shifts"),
        ((math.inf,), (1.0,), "a tuple of shifts"),
        ((1.0,), (0.5, 0.5), "a tuple of weights"),
        ((1.0, 2.0), (1.5, -0.5), "a tuple of weights"),
        ((1.0, 2.0), (0.5, 0.4), "weights that sum to 1"),
    ],
)
def test_a_bad_mixture_is_refused(shifts, weights, message):
    with pytest.raises(ValueError, match=f"MixtureOfGaussians: expected {message}"):
        MixtureOfGaussians(1.0, shifts, weights)
