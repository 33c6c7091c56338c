"""Mechanisms that sit exactly on a claim, and what an auditor sees of them.

In: a NumPy generator, how many canaries, the claim. Out: scores. Used by L12 and the unit tests.
"""

import math

import numpy as np

from dpfunc import audit

ALPHA = 0.05


def chance(epsilon):
    return 1 / (1 + math.exp(-epsilon))


def most_errors(cases, alpha=ALPHA):
    """alpha and three standard errors: no valid estimator is wrong more often, nearly surely."""
    return cases * alpha + 3 * math.sqrt(cases * alpha * (1 - alpha))


def responses(rng, is_in, epsilon, delta=0.0, jitter=0.5):
    """The extreme (epsilon, delta)-DP mechanism: sure with probability delta, else a bit."""
    right = rng.random(len(is_in)) < chance(epsilon)
    bit = np.where(right, is_in, ~is_in).astype(float)
    shown = rng.random(len(is_in)) < delta
    bit = np.where(shown, np.where(is_in, 3.0, -3.0), bit)
    return bit + jitter * rng.random(len(is_in))


def split(rng, n_in, n_out, draw):
    """Scores of ``n_in`` and ``n_out`` canaries: `draw` gives them, knowing who is in."""
    is_in = np.arange(n_in + n_out) < n_in
    values = draw(is_in)
    return audit.Scores(values[is_in], values[~is_in])


def one_run(rng, canaries, draw):
    """The same with a fair coin for each canary."""
    is_in = rng.random(canaries) < 0.5
    values = draw(is_in)
    return audit.Scores(values[is_in], values[~is_in], fair_coins=True)
