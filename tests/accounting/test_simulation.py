"""What an attack on simulated runs is seen to achieve lies within what is proven.

Every step of a composition is drawn with its sampling, and the adversary's best test is played. The
frequencies give a lower bound of delta at confidence 1 - 1e-9 (Clopper and Pearson 1934): it must
not be above the proven upper end; nor may a simulated mean of delta stray from the interval.
"""

import math

import numpy as np
import pytest
from scipy.stats import beta

from dpfunc.accounting import Gaussian, Laplace, Poisson, RandomAllocation, delta_bounds

RUNS = 60_000
DOUBT = 1e-9


def gaussian_loss(y, sigma, rate):
    return np.log1p(rate * np.expm1((2 * y - 1) / (2 * sigma**2)))


def poisson_runs(rng, sigma, rate, steps, *, is_member):
    """The losses of whole runs, drawn with the record among the data, or without it."""
    total = np.zeros(RUNS)
    for _ in range(steps):
        reads = rng.random(RUNS) < rate if is_member else 0.0
        total += gaussian_loss(reads + sigma * rng.standard_normal(RUNS), sigma, rate)
    return total


def laplace_runs(rng, scale, steps, *, is_member):
    y = float(is_member) + scale * rng.laplace(size=(RUNS, steps))
    return ((np.abs(y) - np.abs(y - 1)) / scale).sum(axis=1)


def allocation_runs(rng, sigma, steps, epochs, *, is_member):
    total = np.zeros(RUNS)
    for _ in range(epochs):
        y = sigma * rng.standard_normal((RUNS, steps))
        if is_member:
            y[np.arange(RUNS), rng.integers(steps, size=RUNS)] += 1.0
        total += np.log(np.exp((2 * y - 1) / (2 * sigma**2)).mean(axis=1))
    return total


CASES = {
    "poisson": (
        Poisson(0.1, Gaussian(1.0)) * 20,
        lambda rng, **who: poisson_runs(rng, 1.0, 0.1, 20, **who),
    ),
    "two phases": (
        Poisson(0.3, Gaussian(2.0)) * 10 + Poisson(0.05, Gaussian(0.8)) * 10,
        lambda rng, **who: (
            poisson_runs(rng, 2.0, 0.3, 10, **who) + poisson_runs(rng, 0.8, 0.05, 10, **who)
        ),
    ),
    "laplace and gaussian": (
        Laplace(4.0) * 8 + Gaussian(3.0) * 4,
        lambda rng, **who: laplace_runs(rng, 4.0, 8, **who) + poisson_runs(rng, 3.0, 1.0, 4, **who),
    ),
    "one allocation": (  # its cells are asked for directly, those of many are on a lattice
        RandomAllocation(1, 16, Gaussian(0.8)),
        lambda rng, **who: allocation_runs(rng, 0.8, 16, 1, **who),
    ),
    "allocation": (
        RandomAllocation(1, 16, Gaussian(1.5)) * 6,
        lambda rng, **who: allocation_runs(rng, 1.5, 16, 6, **who),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ["remove", "add"])
def test_no_attack_beats_the_bound(name, order):
    event, runs = CASES[name]
    rng = np.random.default_rng(11)
    with_record, without = runs(rng, is_member=True), runs(rng, is_member=False)
    loss_p, loss_q = (with_record, without) if order == "remove" else (-without, -with_record)
    for epsilon in (0.0, 0.3, 1.0):
        lower, upper = delta_bounds(event, epsilon=epsilon, relation=order, tol=1e-3)
        hits, false_hits = np.sum(loss_p > epsilon), np.sum(loss_q > epsilon)
        at_least = beta.ppf(DOUBT, hits, RUNS - hits + 1) if hits else 0.0
        at_most = beta.ppf(1 - DOUBT, false_hits + 1, RUNS - false_hits)
        assert at_least - math.exp(epsilon) * at_most <= upper
        gains = np.maximum(0.0, -np.expm1(epsilon - loss_p))
        error = 6 * gains.std() / math.sqrt(RUNS) + 1e-5
        assert lower - error <= gains.mean() <= upper + error
