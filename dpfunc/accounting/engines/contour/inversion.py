"""From a tabulated contour to delta, and back to epsilon: for many step counts at once.

The trapezoid rule with step h is not an approximation that has to be trusted. By Poisson summation
it equals ``sum over m of delta(epsilon + m w) exp(c m w)``, ``w = 2 pi / h``: the wanted term and
others that are positive, so it is never below delta, and the others are bounded by 1 for m < 0
and by Chernoff's inequality at another c for m > 0. Errors of the table, rounding and the part of
the integral beyond the nodes widen the interval.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.engines.contour.line import Line, log_peak
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

Indices = NDArray[np.int64]

_AT_ONCE = 200_000  # entries of a table of steps by nodes
_SAMPLED = 12  # steps whose epsilons start the search for those of all others


class LogDelta(NamedTuple):
    """Logarithms of bounds of delta, and about the derivative of ``log delta``."""

    lower: Array  # [s]
    upper: Array  # [s]
    slope: Array  # [s]


def log_delta_bounds(table: Line, ratio: Array, epsilon: Array) -> LogDelta:
    """What the table proves about delta at ``epsilon``, after ``ratio`` times its releases."""
    c, t = table.c, table.t
    z = c + 1j * t
    weights = t[1] / math.pi / (z * (z + 1))  # [k]
    weights[0] /= 2
    origin = table.log_moment[0].real
    size = np.exp(np.multiply.outer(ratio, table.log_moment.real - origin))  # [s, k]
    turn = np.multiply.outer(ratio, table.log_moment.imag) - np.multiply.outer(epsilon, t)
    value, rate = _real_sums(size, turn, np.stack([weights, weights * z]))
    error = size @ (np.abs(weights) * np.expm1(_rounding(table, ratio, epsilon))) + table.rest
    log_scale = ratio * origin - c * epsilon
    slack = 4 * ULP * (ratio * abs(origin) + c * np.abs(epsilon) + 1)
    aliases = np.exp(np.minimum(_log_aliases(table, ratio, epsilon) - log_scale, 700.0))
    least, most = value - error - aliases, value + error
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.where(most > 0, np.log(most) + log_scale + slack, math.inf)
        lower = np.where(least > 0, np.log(least) + log_scale - slack, -math.inf)
        return LogDelta(lower, upper, -rate / value)


def epsilon_ends(table: Line, ratio: Array, log_delta: float, start: Array) -> tuple[Array, Array]:
    """The intervals of epsilons at which delta may be ``exp(log_delta)``, for increasing ratios.

    Newton's method finds the places, and each end is then moved out until its bound says so.
    """
    if len(ratio) > 2 * _SAMPLED:
        start = _between(table, ratio, log_delta, start)
    pieces = max(1, len(ratio) * len(table.t) // _AT_ONCE)
    ends = [
        _ends(table, *of_piece, log_delta)
        for of_piece in zip(
            np.array_split(ratio, pieces), np.array_split(start, pieces), strict=True
        )
    ]
    lower, upper = zip(*ends, strict=True)
    return np.concatenate(lower), np.concatenate(upper)


def _real_sums(size: Array, turn: Array, weights: Array) -> Array:
    """Real parts of the sums over k of ``size exp(i turn)`` with each row of complex weights."""
    cosine, sine = size * np.cos(turn), size * np.sin(turn)
    return np.asarray((cosine @ weights.real.T - sine @ weights.imag.T).T)


def _rounding(table: Line, ratio: Array, epsilon: Array) -> Array:
    """The relative error of each term [k], for the worst of the ratios and epsilons."""
    most = float(ratio.max())
    turned = table.t * float(np.abs(epsilon).max())
    ulps = 3 * most * np.abs(table.log_moment) + turned + len(table.t) + 16
    return np.asarray(most * table.error + ULP * ulps)


def _log_aliases(table: Line, ratio: Array, epsilon: Array) -> Array:
    """The logarithm of a bound on all other terms of Poisson's sum."""
    c, window = table.c, 2 * math.pi / table.t[1]
    left = -c * window - math.log(-math.expm1(-c * window))
    b, k = np.array(table.beyond).T
    apart = (b - c) * window
    height = np.array([log_peak(x) for x in b]) - apart - np.log(-np.expm1(-apart))
    right = np.multiply.outer(ratio, k * (1 + 2 * ULP)) - np.multiply.outer(epsilon, b) + height
    return np.asarray(np.logaddexp(left, right.min(axis=1)))


def _between(table: Line, ratio: Array, log_delta: float, start: Array) -> Array:
    """About all epsilons, by a polynomial through those of a few steps."""
    some = np.unique(np.linspace(0, len(ratio) - 1, _SAMPLED).astype(int))
    _, sampled = _ends(table, ratio[some], start[some], log_delta)
    fitted = np.polynomial.Polynomial.fit(ratio[some], sampled, min(7, len(some) - 1))
    return np.asarray(fitted(ratio))


def _ends(table: Line, ratio: Array, start: Array, log_delta: float) -> tuple[Array, Array]:
    epsilon, slope = _newton(table, ratio, start, log_delta)

    def above(some: Indices, at: Array) -> Array:
        return log_delta_bounds(table, ratio[some], at).upper - log_delta

    def below(some: Indices, at: Array) -> Array:
        return log_delta - log_delta_bounds(table, ratio[some], at).lower

    return _pushed(below, epsilon, slope), _pushed(above, epsilon, -slope)


def _newton(table: Line, ratio: Array, start: Array, log_delta: float) -> tuple[Array, Array]:
    """About where the upper bounds of delta are the target, and the slopes there."""
    epsilon = start
    for _ in range(50):
        here = log_delta_bounds(table, ratio, epsilon)
        if not (np.all(here.upper < math.inf) and np.all(here.slope < 0)):
            raise OutOfReachError
        step = (log_delta - here.upper) / here.slope
        epsilon = epsilon + step
        if np.all(np.abs(step) <= 1e-9 * (1 + np.abs(epsilon))):  # the next would be its square
            break
    return epsilon, np.minimum(here.slope, -1e-300)


def _pushed(excess: Callable[[Indices, Array], Array], epsilon: Array, slope: Array) -> Array:
    """Each epsilon moved in the direction of its slope until its excess is at most 0."""
    result, push = epsilon.copy(), 4e-15 * (1 + np.abs(epsilon))
    short = np.arange(len(epsilon))
    while len(short):
        over = excess(short, result[short])
        if not np.all(over < math.inf):
            raise OutOfReachError
        short, over = short[over > 0], over[over > 0]
        result[short] += np.copysign(push[short], slope[short]) + over / slope[short]
        push[short] *= 2
    return result
