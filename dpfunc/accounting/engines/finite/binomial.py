"""Many releases of one pair whose loss takes two values: exact, with the binomial law.

Pure and approximate DP, randomized response on two answers, discrete Laplace noise on a sum that
moves by one, and Poisson samples of promises are such pairs. After ``times`` of them, k of the
higher loss, the loss is ``(times - k) low + k high``, so that delta is a sum over k (Kairouz, Oh
and Viswanath 2015, arXiv:1311.0776, theorem 3.3). No grid and no transform: only rounding.
"""

import math

import numpy as np

from dpfunc.accounting.engines.finite.law import FiniteLaw, log_sum
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, finite_values, log_kept, lost
from dpfunc.accounting.pairs.privacy_loss import ULP

_MOST_TIMES = 5_000_000
_LEAST_LOG = -690.0  # of a probability that is listed
_DROPPED = 1e-290  # more than all the others have together


def two_losses(pair: FiniteLoss, times: int) -> FiniteLaw | None:
    """The law, or None where the pair has not just two finite losses or there are too many."""
    finite = finite_values(pair)
    if len(finite) != 2 or times > _MOST_TIMES:
        return None
    (low, p_low), (high, p_high) = finite
    k = np.arange(times + 1)
    # From the likeliest k outward by the ratio of neighbours, so that no large numbers cancel.
    ratio = np.log((times - k[:-1]) / (k[:-1] + 1)) + (math.log(p_high) - math.log(p_low))
    mode = int(np.searchsorted(-ratio, 0.0))
    up, down = np.cumsum(ratio[mode:]), np.cumsum(-ratio[:mode][::-1])[::-1]
    log_p = np.concatenate([down, [0.0], up])
    # Adding in a row errs by an ulp of every partial sum, and every logarithm by a few of its own.
    matters = log_p > _LEAST_LOG
    steepest = float(np.abs(ratio[matters[:-1]]).max(initial=0.0))
    error = ULP * (16 + 4 * times + float(np.abs(log_p[matters]).sum()))
    error += 4 * ULP * int(matters.sum()) * (1 + steepest)
    log_p -= log_sum(log_p[matters])
    shift = 8 * ULP * times * (1 + max(abs(low), abs(high)))
    losses = (times - k) * low + k * high
    return FiniteLaw(
        losses=losses[matters],
        log_p=log_p[matters],
        error=error,
        shift=shift,
        infinite=lost(times * log_kept(pair)),
        dropped=0.0 if matters.all() else _DROPPED,
    )
