"""Curves of delta by independent means: from cells at their nodes, and from actual data sets."""

from itertools import product

import numpy as np
from scipy.integrate import trapezoid


def delta_at(pair, epsilons):
    """``P(L > epsilon) - exp(epsilon) Q(L > epsilon)`` from the cells: exact where nodes stand."""
    cells = pair.cells(np.asarray(epsilons, float))
    p, r = (np.cumsum(mass[::-1])[::-1][1:] for mass in (cells.p, cells.r))
    return p - np.exp(epsilons) * r


def joined(outcomes):
    """``[(weight, sum)]`` with equal sums joined."""
    total = {}
    for weight, value in outcomes:
        total[round(value, 12)] = total.get(round(value, 12), 0.0) + weight
    return [(weight, value) for value, weight in total.items()]


def poisson_outcomes(values, rate, cap=None):
    """Every sum of a Poisson sample of the values (cut to a uniform subset), with probability."""
    outcomes = []
    for read in product((0, 1), repeat=len(values)):
        weight = np.prod([rate if bit else 1 - rate for bit in read])
        batch = [value for value, bit in zip(values, read, strict=True) if bit]
        if cap is None or len(batch) <= cap:
            outcomes.append((weight, sum(batch)))
        else:
            subsets = subsets_of(batch, cap)
            outcomes += [(weight / len(subsets), sum(subset)) for subset in subsets]
    return joined(outcomes)


def subset_outcomes(values, batch_size):
    subsets = subsets_of(values, batch_size)
    return joined([(1 / len(subsets), sum(subset)) for subset in subsets])


def draw_outcomes(values, batch_size):
    draws = list(product(values, repeat=batch_size))
    return joined([(1 / len(draws), sum(draw)) for draw in draws])


def subsets_of(values, size):
    bits = product((0, 1), repeat=len(values))
    return [
        [value for value, bit in zip(values, row, strict=True) if bit]
        for row in bits
        if sum(row) == size
    ]


GRID = np.linspace(-36, 36, 60_001)
NOISE = {
    "normal": lambda x, scale: np.exp(-((x / scale) ** 2) / 2) / scale / np.sqrt(2 * np.pi),
    "laplace": lambda x, scale: np.exp(-np.abs(x / scale)) / 2 / scale,
}


def density(outcomes, noise, scale):
    return sum(weight * NOISE[noise](GRID - value, scale) for weight, value in outcomes)


def hockey_stick(p, q, epsilons):
    return np.array([trapezoid(np.maximum(p - np.exp(e) * q, 0), GRID) for e in epsilons])
