"""Renyi differential privacy of the Poisson-subsampled Gaussian at any real order, in log space.

With P the output with the record and Q without, ``E_Q[(dP/dQ)**order]`` multiplies over steps and
bounds delta at every epsilon. For the subsampled Gaussian this order of P and Q is the worse of the
two, so one curve covers both adding and removing a record (Mironov, Talwar and Zhang 2019,
arXiv:1908.10530, theorem 5).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import logsumexp

from dpfunc.accounting.events.dp_sgd import Phase
from dpfunc.accounting.pairs.mixture import log_weighted

Array = NDArray[np.float64]

# Quadrature and rounding stay within 1e-9 of the truth, relative (tests, against 40 digits), and
# within 1e-11 away from order 1; the result is scaled up by more, so that it is an upper bound.
_ROUNDING = 4e-9
_LEAST_ORDER = 1e-3  # the search starts at order 1 + this
_TAIL = 12.0  # standard deviations kept on either side: what is cut is below e**-72 of the whole
_STEP = 0.4  # of the trapezoid rule: its error for a Gaussian is e**(-2 pi**2 / _STEP**2) = 3e-54
_MOST_NODES = 50_000
_OVERFLOW = 500.0  # exponents from which logarithms replace numbers


def log_moment(noise_multiplier: float, sample_rate: float, order: float) -> float:
    """``log E_Q[(dP/dQ)**order]`` of one release, ``order > 1``, rounded up.

    With ``L = log dP/dQ``, ``E_Q[e**L - 1] = 0``, so the moment is ``1 + E_Q[f]`` with ``f =
    e**(order L) - 1 - order (e**L - 1) >= 0``. Integrating f instead of the moment keeps relative
    accuracy where the moment is 1 + 1e-12. The integrand is analytic, so the trapezoid rule
    converges exponentially (Trefethen and Weideman 2014, SIAM Review 56(3)).
    """
    sigma, rate = noise_multiplier, sample_rate
    if sigma == 0:
        return math.inf
    unsampled = order * (order - 1) / 2 / sigma / sigma * (1 + _ROUNDING)
    if rate == 1:
        return unsampled
    # In units of sigma the integrand has its mass between 0 and order / sigma; the zeros of dP/dQ
    # at a distance pi sigma from the real axis limit the step where sigma is small.
    step = _STEP * min(1.0, sigma)
    if (order / sigma + 2 * _TAIL) / step > _MOST_NODES:
        # E_Q[(1 - q + q r)**order] <= 1 - q + q E_Q[r**order], by convexity: tight so far out.
        return float(np.logaddexp(math.log1p(-rate), math.log(rate) + unsampled))
    y = np.arange(-_TAIL, order / sigma + _TAIL + step, step)
    log_weight = -y * y / 2 + math.log(step / math.sqrt(2 * math.pi))
    log_f = _log_excess(log_weighted(y, sigma, ((1.0, rate),)), order)
    return float(np.logaddexp(0.0, logsumexp(log_f + log_weight))) * (1 + _ROUNDING)


def _log_excess(loss: Array, order: float) -> Array:
    """``log(e**(order loss) - 1 - order (e**loss - 1))`` without overflow or cancellation."""
    bounded = np.minimum(loss, _OVERFLOW / order)
    rise = np.expm1(bounded)
    # Near 0 the binomial series of (1 + rise)**order from its second term, exact to 1e-15 there.
    is_small = np.abs(order * rise) < 1e-3
    small = np.where(is_small, rise, 0.0)
    series = np.ones_like(small)
    for k in range(6, 2, -1):
        series = 1 + series * small * (order - k + 1) / k
    near_zero = order * (order - 1) / 2 * small * small * series
    direct = np.expm1(order * bounded) - order * rise
    with np.errstate(divide="ignore"):  # a loss of exactly 0 has a logarithm of -inf
        moderate = np.log(np.where(is_small, near_zero, direct))
    large = np.maximum(loss, _OVERFLOW / order)
    linear = np.where(
        large < 30, np.log1p(order * np.expm1(np.minimum(large, 30))), math.log(order) + large
    )
    huge = order * large + np.log1p(-np.exp(linear - order * large))
    return np.asarray(np.where(order * loss < _OVERFLOW, moderate, huge))


def rdp_epsilon(phases: Sequence[Phase], delta: float) -> float:
    """An epsilon that the composition of ``phases`` meets at ``0 < delta < 1``; the best order."""
    best = _minimum(lambda log_c: epsilon_at(phases, delta, math.exp(log_c)))
    return max(0.0, best * (1 + _ROUNDING))


def rdp_log_delta(phases: Sequence[Phase], epsilon: float) -> float:
    """The logarithm of a delta that the composition meets at ``epsilon``; the best order."""
    best = _minimum(lambda log_c: log_delta_at(phases, epsilon, math.exp(log_c)))
    return min(0.0, best + _ROUNDING)


def epsilon_at(phases: Sequence[Phase], delta: float, c: float) -> float:
    """What the order ``a = 1 + c`` proves: ``rdp + log((a-1)/a) - (log delta + log a) / (a-1)``.

    Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), proposition 12. Every order gives a valid
    bound; the search for the best only decides how tight the answer is.
    """
    spent = _composed(phases, c) - math.log(delta) - math.log1p(c)
    return spent / c - math.log1p(1 / c)


def log_delta_at(phases: Sequence[Phase], epsilon: float, c: float) -> float:
    """The same statement solved for ``log delta``."""
    return _composed(phases, c) - c * epsilon - c * math.log1p(1 / c) - math.log1p(c)


def _composed(phases: Sequence[Phase], c: float) -> float:
    """``log E_Q[(dP/dQ)**(1 + c)]`` of all the phases together: moments multiply."""
    return sum(times * log_moment(sigma, rate, 1 + c) for sigma, rate, times in phases)


def _minimum(bound: Callable[[float], float]) -> float:
    """The minimum of a function of log(order - 1) that falls and then rises.

    Both bounds do: with K the convex log moment, {c: bound <= t} is a sublevel set of a convex
    function of c, hence an interval. Walking up from a small order keeps the quadrature short.
    """
    low, width = math.log(_LEAST_ORDER), math.log(4.0)
    best, here = low, bound(low)
    while (there := bound(best + width)) < here and best < math.log(1e12):
        best, here = best + width, there
    around = scipy.optimize.minimize_scalar(
        bound, bounds=(best - width, best + width), method="bounded", options={"xatol": 1e-6}
    )
    return min(here, float(around.fun))
