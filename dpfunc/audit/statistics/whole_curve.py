"""One run against a whole curve: Mahloujifar, Melis and Chaudhuri 2024 (arXiv:2410.22235).

The number of guesses r is fixed beforehand, c of them are right. Were that, or better, seen with
probability above tau, the claim's curve T would force so much probability on fewer right guesses
that all together exceed one: from ``R = tau c / m`` and ``H = tau (r - c) / m``, for i = c - 1 down
to 0, ``H' = max(H, T^-1(R))`` and ``R += i / (r - i) (H' - H)``. The claim is refuted at level tau
if ``R + H > r / m`` in the end. It takes an event as it is; any shape will do.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from dpfunc.audit.statistics.claims import Claim
from dpfunc.audit.statistics.path_test import Paths
from dpfunc.audit.statistics.scores import Array

SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 1.0)  # of the canaries: the numbers of guesses that are tried
_POINTS = 33  # of a row of claims or levels that is looked at together
_ROUNDS = 6
_LEAST_LEVEL = 1e-12
_MOST_MU = 64.0
_UP = 1 + 1e-12


def p_value(found: Paths, claim: Claim, guesses: int | None) -> float:
    """The least level that refutes the claim, times how many numbers of guesses are tried."""
    canaries = len(found.turns)
    tried = _tried(canaries, guesses)
    levels = [_least_level(canaries, r, found.turns[r - 1], claim) for r in tried]
    return min(1.0, len(tried) * min(levels))


def mu_refuted(found: Paths, alpha: float, guesses: int | None) -> float:
    """The largest mu, to 1e-6 below, whose Gaussian claim is refuted; 0 where none is."""
    canaries = len(found.turns)
    tried = _tried(canaries, guesses)
    level = alpha / len(tried)
    return max(largest_mu(canaries, r, found.turns[r - 1], level) for r in tried)


def largest_mu(canaries: int, guesses: int, right: int, level: float) -> float:
    """The largest mu that this many right guesses refute at ``level``."""

    def is_not_refuted(mu: Array) -> NDArray[np.bool_]:
        levels = np.full_like(mu, level)

        def rate(power: Array) -> Array:
            return np.asarray(ndtr(ndtri(power) - mu)) / _UP

        return ~_is_refuted(canaries, guesses, right, levels, rate)

    return _boundary(is_not_refuted, 0.0, _MOST_MU)[0]


def can_refute(canaries: int, claim: Claim, alpha: float, guesses: int | None) -> bool:
    """Whether guesses that are all right would refute the claim."""
    tried = _tried(canaries, guesses)
    level = np.array([alpha / len(tried)])
    return any(bool(_is_refuted(canaries, r, r, level, claim.rate)[0]) for r in tried)


def _tried(canaries: int, guesses: int | None) -> list[int]:
    """Numbers of guesses, fixed by the number of canaries alone."""
    if guesses is not None:
        return [guesses]
    return sorted({max(1, math.ceil(share * canaries)) for share in SHARES})


def _least_level(canaries: int, guesses: int, right: int, claim: Claim) -> float:
    def is_refuted(log_level: Array) -> NDArray[np.bool_]:
        return _is_refuted(canaries, guesses, right, np.exp(log_level), claim.rate)

    if not is_refuted(np.zeros(1))[0]:
        return 1.0
    return math.exp(_boundary(is_refuted, math.log(_LEAST_LEVEL), 0.0)[1])


def _boundary(
    holds: Callable[[Array], NDArray[np.bool_]], low: float, high: float
) -> tuple[float, float]:
    """Two close points, around the one from which on ``holds`` is true."""
    for _ in range(_ROUNDS):
        points = np.linspace(low, high, _POINTS)
        first = int(np.argmax(np.append(holds(points[1:-1]), True))) + 1
        low, high = float(points[first - 1]), float(points[first])
    return low, high


def _is_refuted(
    canaries: int,
    guesses: int,
    right: int,
    level: Array,
    rate: Callable[[Array], Array],
) -> NDArray[np.bool_]:
    """For a row of levels, or of claims."""
    r, h = level * right / canaries, level * (guesses - right) / canaries
    for i in range(right - 1, -1, -1):
        higher = np.maximum(h, rate(np.minimum(r, 1.0)))
        r = r + i / (guesses - i) * (higher - h)
        h = higher
    return np.asarray(r + h > guesses / canaries * _UP)
