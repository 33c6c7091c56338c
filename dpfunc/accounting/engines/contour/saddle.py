"""Where the contour should run: moments on the real axis, fast and without proof.

Any c > 0 gives a valid contour, so nothing here has to be certain.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.engines.contour.moments import exp_beyond_first
from dpfunc.accounting.pairs.mixture import GaussianMixture, log_weighted
from dpfunc.accounting.pairs.privacy_loss import Array

_TRIED = 40  # values of c at once
_LARGEST = 4e3  # standard deviations: how far moments are worked out
_LOG_ROOT = math.log(2 * math.pi) / 2


class Saddle(NamedTuple):
    """The chosen c, with about ``K(c)`` and ``K''(c)``."""

    c: float
    log_moment: float
    curvature: float


def saddle(
    mixtures: Sequence[tuple[GaussianMixture, int]],
    mu: float,
    height: Callable[[Array, Array], Array],
) -> Saddle | None:
    """The c with the least ``height(c, K(c))``; None where it is out of reach."""

    def tried(low: float, high: float) -> tuple[Array, Array, int]:
        c = np.exp(np.linspace(low, high, _TRIED))
        k = c * (c + 1) * (mu * mu / 2)
        for pair, times in mixtures:
            k = k + times * log_moments(pair, c)
        return c, k, int(np.argmin(np.where(k < np.inf, height(c, k), np.inf)))

    reach = max((pair.reach() for pair, _ in mixtures), default=1.0)
    low, high = -7.0, math.log(40 / reach + 2)
    c, k, best = tried(low, high)
    while best == _TRIED - 1:
        low, high = high - 0.5, high + 2.0
        if high > math.log(_LARGEST / reach):
            return None
        c, k, best = tried(low, high)
    for _ in range(2):
        c, k, best = tried(math.log(c[max(0, best - 1)]), math.log(c[min(_TRIED - 1, best + 1)]))
    inner = min(max(best, 1), _TRIED - 2)
    left, right = c[inner] - c[inner - 1], c[inner + 1] - c[inner]
    rises = np.diff(k[inner - 1 : inner + 2]) / np.array([left, right])
    return Saddle(
        float(c[best]), float(k[best]), max(0.0, float(2 * np.diff(rises)[0] / (left + right)))
    )


@np.errstate(over="ignore", invalid="ignore")  # what overflows is infinite, or not used
def log_moments(pair: GaussianMixture, c: Array) -> Array:
    """``log E_P[exp(c L)]`` for increasing c, by the trapezoid rule; infinite on overflow."""
    sigma = pair.noise_multiplier
    up, down = (max((s for s, _ in side), default=0.0) / sigma for side in (pair.above, pair.below))
    step = 0.4 * min(1.0, 1 / (up + down))
    y = np.arange(-down - 10, (1 + c[-1]) * up + c[-1] * down + 10, step)
    log_a, log_b = log_weighted(y, sigma, pair.above), log_weighted(-y, sigma, pair.below)
    log_weight = math.log(step) - _LOG_ROOT - y * y / 2
    weight = np.exp(log_weight)
    exponent = np.multiply.outer(1 + c, log_a) - np.multiply.outer(c, log_b)  # [c, y]
    rest_a, rest_b = exp_beyond_first(log_a) @ weight, exp_beyond_first(log_b) @ weight
    near = exp_beyond_first(np.minimum(exponent, 30.0)) * weight
    with np.errstate(over="ignore"):
        far = np.exp(exponent + log_weight)
        total = np.where(exponent < 30, near, far).sum(axis=1) - (1 + c) * rest_a + c * rest_b
    return np.asarray(np.log1p(np.maximum(total, 0.0)))
