"""The Gaussian mechanism in closed form, ``N(mu, 1)`` against ``N(0, 1)``: delta and epsilon.

Any number of unsampled Gaussian releases is one of them: ``mu**2 = sum 1 / noise_multiplier**2``
(Dong, Roth and Su 2019, arXiv:1905.02383, corollary 3.3).
"""

import math
import sys

from scipy.optimize import brentq
from scipy.special import erfcx, log_ndtr

_ULP = sys.float_info.epsilon


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta of the mechanism at ``epsilon >= 0``, rounded up.

    ``Phi(mu/2 - epsilon/mu) - e**epsilon Phi(-mu/2 - epsilon/mu)``: Balle and Wang 2018
    (arXiv:1805.06530), theorem 8.
    """
    if mu == math.inf:
        return 1.0
    if mu == 0 or epsilon == math.inf:
        return 0.0
    return min(1.0, math.exp(_log_delta(mu, epsilon)) * (1 + 4 * _ULP))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 of the mechanism at ``0 < delta < 1``, rounded up."""
    if mu == math.inf:
        return math.inf
    if mu == 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    target = math.log(delta) * (1 + 4 * _ULP)
    # P(loss > epsilon) <= exp(-(epsilon/mu - mu/2)**2 / 2) bounds delta: this epsilon is enough.
    enough = mu * mu / 2 + mu * math.sqrt(-2 * target) * (1 + 1e-9) + 1e-9
    while _log_delta(mu, enough) > target:  # where mu is so large that rounding outweighs the tail
        enough *= 2
    found = float(brentq(lambda epsilon: _log_delta(mu, epsilon) - target, 0.0, enough, xtol=1e-13))
    while _log_delta(mu, found) > target:  # the root finder may stop on the wrong side
        found = found * (1 + 1e-12) + 1e-13
    return found


def _log_delta(mu: float, epsilon: float) -> float:
    """``log delta`` plus a bound on its own rounding error."""
    near = epsilon / mu - mu / 2  # delta = Phi(-near) - e**epsilon Phi(-near - mu)
    scale = epsilon / mu + mu / 2  # near is off by an ulp of this
    if near > 0:
        # e**epsilon phi(near + mu) = phi(near) turns this into a difference of Mills ratios, in
        # which no tiny tail is multiplied by e**epsilon.
        ratio = float(erfcx(near / math.sqrt(2)))
        ratios = ratio - float(erfcx((near + mu) / math.sqrt(2)))
        if ratios <= 0:
            return -math.inf if ratio == 0 else -near * near / 2 + math.log(ratio / 2)
        error = 4 * near * scale + 8 * (1 + scale / (1 + near)) * ratio / ratios + 8
        return -near * near / 2 + math.log(ratios / 2) + error * _ULP
    log_kept, log_far = float(log_ndtr(-near)), float(log_ndtr(-near - mu))
    lost = math.exp(min(0.0, epsilon + log_far - log_kept))
    if lost >= 1:
        return log_kept
    error = 4 * (1 + epsilon - log_far + (near + mu) * scale) * lost / (1 - lost) + 8
    return log_kept + math.log1p(-lost) + error * _ULP
