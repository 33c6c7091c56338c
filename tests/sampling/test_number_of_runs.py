"""The number of runs is drawn from the distribution that the accountant assumes."""

import math

import numpy as np
import pytest
from scipy import stats

import dpfunc as dp
from dpfunc.accounting import Gaussian, PrivateSelection
from dpfunc.sampling import runs_to_make


def probabilities(most, mean_runs, shape):
    """By its closed form, from gamma functions: not by the recursion that draws."""
    gamma = PrivateSelection(Gaussian(1.0), mean_runs, shape).gamma
    k = np.arange(1, most)
    if shape == 0:
        return (1 - gamma) ** k / (k * math.log(1 / gamma))
    rising = stats.nbinom.pmf(k, shape, gamma) if shape > 0 else None
    if rising is None:  # (1 - gamma)**k / (gamma**-shape - 1) times a product of k terms
        terms = (np.arange(most - 1) + shape) / (np.arange(most - 1) + 1)
        return (1 - gamma) ** k / (gamma**-shape - 1) * np.cumprod(terms)
    return rising / (1 - gamma**shape)


@pytest.mark.parametrize(("mean_runs", "shape"), [(3, 0), (4, 1), (6, 0.5), (3, -0.5), (8, 3)])
def test_the_law_is_the_truncated_negative_binomial(mean_runs, shape):
    draws = [
        runs_to_make(dp.fold_in(dp.key(5), i), mean_runs=mean_runs, shape=shape) for i in range(400)
    ]
    law = probabilities(12, mean_runs, shape)
    counts = np.bincount(np.minimum(draws, 12), minlength=13)[1:]
    expected = np.append(law, 1 - law.sum()) * len(draws)
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_a_poisson_number_may_be_0():
    draws = [
        runs_to_make(dp.fold_in(dp.key(6), i), mean_runs=2, shape=math.inf) for i in range(400)
    ]
    expected = stats.poisson.pmf(np.arange(7), 2)
    expected = np.append(expected, 1 - expected.sum()) * len(draws)
    counts = np.bincount(np.minimum(draws, 7), minlength=8)
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_it_is_a_function_of_the_key():
    options = {"mean_runs": 1000, "shape": 1}
    keys = [dp.key(seed) for seed in range(3)]
    draws = [runs_to_make(key, **options) for key in keys]
    assert draws == [runs_to_make(key, **options) for key in keys]
    assert len(set(draws)) == 3


def test_a_mean_of_1_is_one_run():
    assert {runs_to_make(dp.key(s), mean_runs=1, shape=1) for s in range(20)} == {1}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mean_runs": 0.5, "shape": 1}, "mean_runs of at least 1"),
        ({"mean_runs": 1e5, "shape": -0.9}, "a larger shape"),
        ({"mean_runs": 3, "shape": "geometric"}, "a shape between"),
    ],
)
def test_numbers_without_a_law_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        runs_to_make(dp.key(0), **options)
