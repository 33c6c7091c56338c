"""The law of a loss as a list of values, and what it says about delta and epsilon.

Delta at epsilon is the sum of ``p (1 - exp(epsilon - loss))`` over the losses above epsilon, and
the probability that the loss is infinite. A list may have errors, and it may leave something out.
Each bound takes them on its own side.
"""

import math
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.pairs.privacy_loss import ULP, Array, log_rounding


class FiniteLaw(NamedTuple):
    """The law of the loss after all releases, the infinite one apart."""

    losses: Array  # [k] increasing
    log_p: Array  # [k] given that none is infinite
    error: float  # of each log_p, and of their sums
    shift: float  # how far off each loss may be
    infinite: float  # probability that one is infinite, rounded up
    dropped: float = 0.0  # a bound on the probability of all losses that are not listed


def log_delta_interval(law: FiniteLaw, epsilon: float) -> tuple[float, float]:
    """Bounds, a rounding error apart, of the logarithm of delta."""
    lower = _log_delta(law, epsilon + law.shift, -law.error)
    upper = _log_delta(law, epsilon - law.shift, law.error)
    return lower - log_rounding(lower), min(0.0, upper + log_rounding(upper))


def epsilon_interval(law: FiniteLaw, log_delta: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 at which ``log delta`` is at most ``log_delta``."""
    most = max(0.0, float(law.losses[-1]) + law.shift)
    if log_delta_interval(law, most)[1] > log_delta:  # more is lost outright, or dropped
        certain = log_delta_interval(law, most)[0] > log_delta
        return (math.inf if certain else _crossing(law, log_delta, most, 0)), math.inf
    return _crossing(law, log_delta, most, 0), _crossing(law, log_delta, most, 1)


def log_sum(logarithms: Array) -> float:
    """The logarithm of the sum; SciPy's own takes ten times as long on short arrays."""
    top = float(logarithms.max())
    return top + math.log(np.exp(logarithms - top).sum()) if top > -math.inf else top


def _crossing(law: FiniteLaw, log_delta: float, most: float, end: int) -> float:
    """Where one end of the bounds falls to the target; on the safe side of it."""
    if log_delta_interval(law, 0.0)[end] <= log_delta:
        return 0.0
    above, below = 0.0, most  # the bound is above the target at the first, not at the second
    while below - above > 4 * ULP * below:
        middle = (above + below) / 2
        if middle in (above, below):
            break
        if log_delta_interval(law, middle)[end] > log_delta:
            above = middle
        else:
            below = middle
    return above if end == 0 else below


def _log_delta(law: FiniteLaw, epsilon: float, error: float) -> float:
    """The sum over the losses above epsilon, moved by the error, and what is lost outright."""
    first = int(np.searchsorted(law.losses, epsilon, side="right"))
    value = -math.inf
    if first < len(law.losses):
        with np.errstate(divide="ignore"):
            gains = np.log(-np.expm1(epsilon - law.losses[first:]))
        value = log_sum(law.log_p[first:] + gains) + error
    if error > 0 and law.dropped > 0:  # it may all be above epsilon
        value = float(np.logaddexp(value, math.log(law.dropped)))
    if law.infinite == 0:
        return min(0.0, value)
    infinite = law.infinite * (1 + math.copysign(2 * law.error, error))
    if infinite >= 1:
        return 0.0
    return min(0.0, float(np.logaddexp(math.log(infinite), math.log1p(-infinite) + value)))
