"""Many releases of one pair whose loss takes two values: exact, with the binomial law.

Pure and approximate DP, randomized response on two answers, discrete Laplace noise on a sum that
moves by one, and Poisson samples of promises are such pairs. After ``times`` of them, k of the
higher loss, the loss is ``(times - k) low + k high``, so that delta is a sum over k (Kairouz, Oh
and Viswanath 2015, arXiv:1311.0776, theorem 3.3). No grid and no transform: only rounding.
"""

import math
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.privacy_loss import ULP, Array

_MOST_TIMES = 5_000_000


class TwoLosses(NamedTuple):
    """The law of the loss after all releases, the infinite one apart."""

    losses: Array  # [k] increasing, those of a probability that float64 can hold
    log_p: Array  # [k] given that none is infinite
    error: float  # of each log_p, and of their sums
    shift: float  # how far off each loss may be
    infinite: float  # probability that one is infinite, rounded up


def two_losses(pair: FiniteLoss, times: int) -> TwoLosses | None:
    """The law, or None where the pair has not just two finite losses or there are too many."""
    finite = [(loss, p) for loss, p, _ in pair.values if math.isfinite(loss)]
    if len(finite) != 2 or times > _MOST_TIMES or min(p for _, p in finite) <= 0:
        return None
    (low, p_low), (high, p_high) = finite
    lost = math.fsum(p for loss, p, _ in pair.values if loss == math.inf)
    k = np.arange(times + 1)
    # From the likeliest k outward by the ratio of neighbours, so that no large numbers cancel.
    ratio = np.log((times - k[:-1]) / (k[:-1] + 1)) + math.log(p_high / p_low)
    mode = int(np.searchsorted(-ratio, 0.0))
    up, down = np.cumsum(ratio[mode:]), np.cumsum(-ratio[:mode][::-1])[::-1]
    log_p = np.concatenate([down, [0.0], up])
    # Adding in a row errs by an ulp of every partial sum, and every logarithm by a few of its own.
    matters = log_p > -760.0
    steepest = float(np.abs(ratio[matters[:-1]]).max(initial=0.0))
    error = ULP * (16 + 4 * times + float(np.abs(log_p[matters]).sum()))
    error += 4 * ULP * int(matters.sum()) * (1 + steepest)
    log_p -= _log_sum(log_p[matters])
    infinite = -math.expm1(times * math.log1p(-lost)) * (1 + 8 * ULP) if lost < 1 else 1.0
    largest = max(abs(low), abs(high))
    shift = 8 * ULP * times * (1 + largest)
    losses = (times - k) * low + k * high
    return TwoLosses(losses[matters], log_p[matters], error, shift, infinite)


def log_delta_interval(law: TwoLosses, epsilon: float) -> tuple[float, float]:
    """Bounds, a rounding error apart, of the logarithm of delta."""
    return (
        _log_delta(law, epsilon + law.shift, -law.error),
        _log_delta(law, epsilon - law.shift, law.error),
    )


def epsilon_interval(law: TwoLosses, log_delta: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 at which ``log delta`` is at most ``log_delta``."""
    most = float(law.losses[-1]) + law.shift
    if log_delta_interval(law, most)[1] > log_delta:  # more is lost outright
        return (math.inf if log_delta_interval(law, most)[0] > log_delta else most), math.inf
    return _crossing(law, log_delta, most, 0), _crossing(law, log_delta, most, 1)


def _crossing(law: TwoLosses, log_delta: float, most: float, end: int) -> float:
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


def _log_delta(law: TwoLosses, epsilon: float, error: float) -> float:
    """The sum over the losses above epsilon, moved by the error, and what is lost outright."""
    first = int(np.searchsorted(law.losses, epsilon, side="right"))
    value = -math.inf
    if first < len(law.losses):
        with np.errstate(divide="ignore"):
            gains = np.log(-np.expm1(epsilon - law.losses[first:]))
        value = _log_sum(law.log_p[first:] + gains) + error
    if law.infinite == 0:
        return min(0.0, value)
    infinite = law.infinite * (1 + math.copysign(2 * law.error, error))
    if infinite >= 1:
        return 0.0
    return min(0.0, float(np.logaddexp(math.log(infinite), math.log1p(-infinite) + value)))


def _log_sum(logarithms: Array) -> float:
    """The logarithm of the sum; SciPy's own takes ten times as long on short arrays."""
    top = float(logarithms.max())
    return top + math.log(np.exp(logarithms - top).sum()) if top > -math.inf else top
