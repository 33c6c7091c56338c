"""The lower bound of a delta near 1: never above the truth, and no less where it is nearly 1."""

import itertools
import math

import numpy as np
import pytest

from dpfunc.accounting import Gaussian, Laplace, Poisson, RandomAllocation, delta_bounds, dp_sgd
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.affinity import log_delta_at_least
from dpfunc.accounting.pairs.finite_loss import finite_loss
from dpfunc.accounting.pairs.gaussian import gaussian_log_delta


def by_enumeration(parts, epsilon):
    """Delta by every sequence of outcomes."""
    outcomes = [list(zip(p, q, strict=True)) for p, q, times in parts for _ in range(times)]
    return math.fsum(
        max(0.0, math.prod(p for p, _ in one) - math.exp(epsilon) * math.prod(q for _, q in one))
        for one in itertools.product(*outcomes)
    )


def listed(p, q):
    return finite_loss(
        (math.log(a / b) if a * b > 0 else math.copysign(math.inf, a - b), a, b)
        for a, b in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("seed", range(12))
def test_never_above_the_truth(seed, epsilon):
    """Pairs that favour one side, with outcomes that only P or only Q has."""
    rng = np.random.default_rng(seed)
    parts = []
    for times in (1 + seed % 3, 2):
        p, q = rng.dirichlet([0.3, 1.0, 3.0]), rng.dirichlet([3.0, 0.5, 0.2])
        if seed % 4 == 0:
            q = np.array([q[0] + q[2], q[1], 0.0])
        if seed % 4 == 1:
            p, q = np.array([0.0, p[0] + p[1], p[2]]), np.array([0.9, 0.09, 0.01])
        parts.append((p.tolist(), q.tolist(), times))
    composition = tuple((listed(p, q), times) for p, q, times in parts)
    found = log_delta_at_least(composition, epsilon)
    truth = by_enumeration(parts, epsilon)
    assert found <= (math.log(truth) if truth > 0 else -math.inf) + 1e-12


@pytest.mark.parametrize("epsilon", [0.0, 3.0, 20.0])
@pytest.mark.parametrize("times", [1, 30, 400])
def test_of_normal_outcomes(times, epsilon):
    """Cells hide nothing that counts: where the bound proves anything, it is near."""
    (once,) = pairs(Gaussian(1.5), "remove")
    found = log_delta_at_least(((once[0][0], times),), epsilon)
    truth = gaussian_log_delta(math.sqrt(times) / 1.5, epsilon)[1]
    assert found <= truth
    if times == 400:
        assert found > truth - 1e-5


@pytest.mark.parametrize("sigma", [0.4, 0.1, 0.02])
def test_masses_that_are_too_small_for_a_float(sigma):
    """A large epsilon makes much of them."""
    (once,) = pairs(Gaussian(sigma), "remove")
    mu = math.sqrt(20) / sigma
    for z in (-7.0, 0.0, 3.0, 7.0):
        epsilon = mu * mu / 2 + z * mu
        truth = gaussian_log_delta(mu, epsilon)[1]
        assert log_delta_at_least(((once[0][0], 20),), epsilon) <= truth


@pytest.mark.parametrize(
    "event",
    [
        Laplace(3.8) * 10_000,
        RandomAllocation(1, 50, Gaussian(0.5)) * 1000,
        Poisson(0.3, Gaussian(0.3)) * 1000,
        dp_sgd(noise_multiplier=0.5, sample_rate=0.9, steps=1000),
    ],
)
def test_a_delta_of_nearly_1_has_both_ends(event):
    lower, upper = delta_bounds(event, epsilon=1.0)
    assert 1 - 1e-5 <= lower <= upper <= 1.0
