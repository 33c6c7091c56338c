"""The Gaussian mechanism in closed form, ``N(mu, 1)`` against ``N(0, 1)``: delta and epsilon.

Any number of unsampled Gaussian releases is one of them: ``mu**2 = sum 1 / noise_multiplier**2``
(Dong, Roth and Su 2019, arXiv:1905.02383, corollary 3.3).
"""

import math
import sys

import scipy
from scipy.special import erfcx, log_ndtr

_ULP = sys.float_info.epsilon


def gaussian_log_delta(mu: float, epsilon: float) -> tuple[float, float]:
    """Bounds, a rounding error apart, of the logarithm of delta at ``epsilon >= 0``.

    ``delta = Phi(mu/2 - epsilon/mu) - e**epsilon Phi(-mu/2 - epsilon/mu)``: Balle and Wang 2018
    (arXiv:1805.06530), theorem 8.
    """
    if mu == math.inf:
        return 0.0, 0.0
    if mu == 0 or epsilon == math.inf:
        return -math.inf, -math.inf
    value, error = _log_delta(mu, epsilon)
    return value - error, value + (error if error < math.inf else 0.0)


def gaussian_epsilon(mu: float, log_delta: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 at which ``log delta`` is at most ``log_delta < 0``."""
    if mu == math.inf:
        return math.inf, math.inf
    if mu == 0 or gaussian_log_delta(mu, 0.0)[1] <= log_delta:
        return 0.0, 0.0
    # P(loss > epsilon) <= exp(-(epsilon/mu - mu/2)**2 / 2) bounds delta: this epsilon is enough.
    enough = mu * mu / 2 + mu * math.sqrt(-2 * log_delta) * (1 + 1e-9) + 1e-9
    while gaussian_log_delta(mu, enough)[1] > log_delta:  # where rounding outweighs the tail
        enough *= 2

    def excess(epsilon: float) -> float:
        lower, upper = gaussian_log_delta(mu, epsilon)
        return (upper + (lower if lower > -math.inf else upper)) / 2 - log_delta

    found = 0.0
    if excess(0.0) > 0:
        found = float(scipy.optimize.brentq(excess, 0.0, enough, xtol=1e-14, rtol=4 * _ULP))
    return _moved(mu, log_delta, found, -1.0), _moved(mu, log_delta, found, 1.0)


def gaussian_mu(epsilon: float, log_delta: float) -> float:
    """About the smallest mu with at least this delta at epsilon; a little more, never less."""
    low, high = 0.0, 1e-3
    while gaussian_log_delta(high, epsilon)[0] < log_delta:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if gaussian_log_delta(middle, epsilon)[0] >= log_delta else (middle, high)
        )
    return high


def _moved(mu: float, log_delta: float, epsilon: float, direction: float) -> float:
    """``epsilon`` moved up or down until the bound of delta proves it to be on that side."""
    push = 1e-15 * (1 + epsilon)
    while epsilon > 0 or direction > 0:
        lower, upper = gaussian_log_delta(mu, epsilon)
        if upper <= log_delta if direction > 0 else lower >= log_delta:
            return epsilon
        epsilon = max(0.0, epsilon + direction * push)
        push *= 2
    return 0.0


def _log_delta(mu: float, epsilon: float) -> tuple[float, float]:
    """``log delta`` and a bound on its rounding error."""
    near = epsilon / mu - mu / 2  # delta = Phi(-near) - e**epsilon Phi(-near - mu)
    scale = epsilon / mu + mu / 2  # near is off by an ulp of this
    if near > 0:
        # e**epsilon phi(near + mu) = phi(near) turns this into a difference of Mills ratios, in
        # which no tiny tail is multiplied by e**epsilon.
        ratio = float(erfcx(near / math.sqrt(2)))
        ratios = ratio - float(erfcx((near + mu) / math.sqrt(2)))
        if ratios <= 0:  # lost to rounding: delta is below the first term
            return -near * near / 2 + math.log(max(ratio, 5e-324) / 2), math.inf
        error = 4 * near * scale + 8 * (1 + scale / (1 + near)) * ratio / ratios + 8
        return -near * near / 2 + math.log(ratios / 2), error * _ULP
    log_kept, log_far = float(log_ndtr(-near)), float(log_ndtr(-near - mu))
    lost = math.exp(min(0.0, epsilon + log_far - log_kept))
    if lost >= 1:
        return log_kept, math.inf
    error = 4 * (1 + epsilon - log_far + (near + mu) * scale) * lost / (1 - lost) + 8
    return log_kept + math.log1p(-lost), error * _ULP
