"""The contour engine: delta as an integral over moments, without a grid of losses.

``delta(epsilon) = 1 / (2 pi i) * integral of exp(K(z) - z epsilon) / (z (z + 1)) dz`` along
``Re z = c > 0``, with ``K(z)`` the sum of ``times * log M(z)`` over the parts (Alghamdi et al.
2023, "The saddle-point method in differential privacy", ICML; here without their approximation).

The trapezoid rule with step h is not an approximation that has to be trusted. By Poisson summation
it equals ``sum over m of delta(epsilon + m w) exp(c m w)``, ``w = 2 pi / h``: the wanted term and
others that are positive, so it is never below delta, and the others are bounded by 1 for m < 0
and by Chernoff's inequality at another c for m > 0. The sum over the nodes ends where the rest is
proven to be small (`decay`). Errors of M, rounding and the rest widen the interval.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.decay import MOST_REACH, require_small_beyond
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.mixture import GaussianMixture
from dpfunc.accounting.moments import Complex, moments
from dpfunc.accounting.pair import ULP, Array, OutOfReachError
from dpfunc.accounting.saddle import Saddle, saddle

_LOG_SMALL = -40.0  # of the characteristic function where the nodes end
_FARTHER = (1.03, 1.1, 1.25, 1.6, 2.5)  # times c: Chernoff's inequality is tried there
_LOG_ALIAS = -34.0  # of the other terms of Poisson's sum, relative to delta
QUICK, THOROUGH = 1e6, 6e6  # efforts: places times nodes of the largest table


class Parts(NamedTuple):
    """A composition as the engine sees it: mixtures, and all unsampled Gaussians as one."""

    mixtures: tuple[tuple[GaussianMixture, int], ...]
    mu: float

    def repeated(self, times: int) -> "Parts":
        """All of it, ``times`` over."""
        mixtures = tuple((pair, n * times) for pair, n in self.mixtures)
        return Parts(mixtures, self.mu * math.sqrt(times))


class Line(NamedTuple):
    """The integrand tabulated along one contour."""

    c: float
    t: Array  # [k] nodes, from 0
    log_moment: Complex  # [k] K(c + i t)
    error: Array  # [k] of log_moment
    beyond: tuple[tuple[float, float], ...]  # (c', K(c')) with c' > c, for Chernoff's inequality


def parts(composition: Composition) -> Parts:
    """The composition sorted; `OutOfReachError` where a pair is not a Gaussian mixture."""
    mixtures, mu_squared = [], 0.0
    for pair, times in composition:
        if not isinstance(pair, GaussianMixture):
            raise OutOfReachError
        if (mu := pair.unsampled()) is not None:
            mu_squared += times * mu * mu
        elif pair.reach() > MOST_REACH:
            raise OutOfReachError
        else:
            mixtures.append((pair, times))
    return Parts(tuple(mixtures), math.sqrt(mu_squared))


def log_moment(
    released: Parts, c: float, t: Array, accuracy: float = 1e-15, effort: float = THOROUGH
) -> tuple[Complex, Array]:
    """``K(c + i t)`` and a bound on its error; ``accuracy`` is that of the quadrature."""
    z: Complex = np.asarray(c + 1j * t, dtype=np.complex128)
    total: Complex = z * (z + 1) * (released.mu * released.mu / 2)
    error = 8 * ULP * np.abs(total)
    for pair, times in released.mixtures:
        one = moments(pair, c, t, accuracy / times, effort)
        total = total + float(times) * one.log()
        error = error + times * one.log_error()
    return total, error + 4 * ULP * np.abs(total)


def real_log_moment(released: Parts, c: float) -> float:
    """``K(c)``, rounded up; infinite where it is out of reach."""
    try:
        value, error = log_moment(released, c, np.zeros(1), 1e-6)
    except OutOfReachError:
        return math.inf
    return float(value[0].real + error[0])


def epsilon_interval(
    composition: Composition, log_delta: float, effort: float
) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``; or `OutOfReachError`."""
    released = parts(composition)
    at = saddle_of_delta(released, log_delta)
    start = (at.log_moment - log_delta - math.log(at.c * (at.c + 1))) / at.c
    lower, upper = epsilon_ends(line(released, at, start, log_delta, effort), log_delta, start)
    return max(0.0, lower), max(0.0, upper)


def log_delta_interval(
    composition: Composition, epsilon: float, effort: float
) -> tuple[float, float]:
    """Bounds of ``log delta`` at ``epsilon``; or `OutOfReachError`."""
    released = parts(composition)
    at = _found(saddle(*released, lambda c, k: k - c * epsilon - np.log(c * (c + 1))))
    # At the saddle delta is about exp(K - c epsilon) / (c (c+1)) over a few standard deviations.
    about = min(0.0, at.log_moment - at.c * epsilon - math.log(at.c * (at.c + 1)) - 4.0)
    bounds = log_delta_bounds(line(released, at, epsilon, about, effort), epsilon)
    return bounds.lower, min(0.0, bounds.upper)


def rough_epsilon(composition: Composition, log_delta: float) -> float:
    """About the epsilon, by the saddle-point approximation: an estimate, not a bound."""
    try:
        released = parts(composition)
        c, k, curvature = saddle_of_delta(released, log_delta)
    except OutOfReachError:
        return math.inf
    spread = math.log(2 * math.pi * (curvature + 1 / c**2 + 1 / (c + 1) ** 2)) / 2
    return max(0.0, (k - log_delta - math.log(c * (c + 1)) - spread) / c)


def chernoff_epsilon(composition: Composition, log_delta: float) -> float:
    """An upper bound of epsilon at the best order: quick, and not tight."""
    released = parts(composition)
    c = saddle_of_delta(released, log_delta).c
    spent = real_log_moment(released, c) - log_delta + _log_peak(c)
    return max(0.0, spent / c * (1 + 1e-12) + 1e-12)


def saddle_of_delta(released: Parts, log_delta: float) -> Saddle:
    """Where the contour for this delta should run."""
    return _found(saddle(*released, lambda c, k: (k - log_delta - np.log(c * (c + 1))) / c))


def line(released: Parts, at: Saddle, epsilon: float, log_delta: float, effort: float) -> Line:
    """The table along ``Re z = c`` that serves epsilons near this one; or `OutOfReachError`."""
    beyond = tuple((at.c * f, real_log_moment(released, at.c * f)) for f in _FARTHER)
    step = 2 * math.pi / _window(at.c, epsilon, log_delta, beyond)
    return _tabulated(released, at, step, beyond, effort)


def _tabulated(
    released: Parts,
    at: Saddle,
    step: float,
    beyond: tuple[tuple[float, float], ...],
    effort: float,
) -> Line:
    """K at multiples of ``step``, until what is left out is proven to be small."""
    variance = at.curvature + 1 / at.c**2 + 1 / (at.c + 1) ** 2
    end = math.sqrt(-2 * (_LOG_SMALL - 6) / variance)
    for _ in range(12):
        count = math.ceil(end / step) + 1
        if count * 100 > effort:
            raise OutOfReachError
        t = np.asarray(np.arange(count) * step, dtype=np.float64)
        values, error = log_moment(released, at.c, t, effort=effort)
        if values[-1].real + error[-1] - values[0].real + error[0] <= _LOG_SMALL - 3:
            break
        end *= 1.4
    else:
        raise OutOfReachError
    require_small_beyond(released.mixtures, released.mu, at.c, float(t[-1]), _LOG_SMALL, effort)
    return Line(at.c, t, values, error, beyond)


class SharedLine(NamedTuple):
    """The table of ``fewest`` steps, and an epsilon to start from."""

    line: Line
    fewest: int
    start: float

    def of(self, steps: int) -> Line:
        """The table of more steps: all logarithms of moments are multiplied."""
        ratio = steps / self.fewest
        c, t, values, error, beyond = self.line
        rounding = 2 * ULP * ratio * np.abs(values)
        more = tuple((b, k * ratio * (1 + 2 * ULP)) for b, k in beyond)
        return Line(c, t, values * ratio, error * ratio + rounding, more)


def shared_line(one: Parts, fewest: int, most: int, log_delta: float) -> SharedLine:
    """One table for all steps between ``fewest`` and ``most``, which should be near each other.

    It ends where the fewest steps allow, and its window is wide enough for the most.
    """
    few, many = one.repeated(fewest), one.repeated(most)
    at = saddle_of_delta(few, log_delta)
    largest = real_log_moment(many, at.c)
    epsilon = (largest - log_delta - math.log(at.c * (at.c + 1))) / at.c
    start = (at.log_moment - log_delta - math.log(at.c * (at.c + 1))) / at.c
    beyond = tuple((at.c * f, real_log_moment(few, at.c * f)) for f in _FARTHER)
    wide = tuple((b, k * most / fewest) for b, k in beyond)
    window = max(_window(at.c, epsilon, log_delta, wide), _window(at.c, start, log_delta, beyond))
    step = 2 * math.pi / (1.05 * window)
    return SharedLine(_tabulated(few, at, step, beyond, QUICK), fewest, start)


def _found(at: Saddle | None) -> Saddle:
    if at is None:
        raise OutOfReachError
    return at


class LogDelta(NamedTuple):
    """Logarithms of bounds of delta, and about the derivative of ``log delta``."""

    lower: float
    upper: float
    slope: float


def log_delta_bounds(table: Line, epsilon: float) -> LogDelta:
    """What the table proves about delta at ``epsilon``."""
    c, t = table.c, table.t
    step = t[1]
    z = c + 1j * t
    origin = table.log_moment[0].real
    exponent = table.log_moment - origin - 1j * t * epsilon
    terms = np.exp(exponent) / (z * (z + 1)) * (step / math.pi)
    terms[0] /= 2
    size = np.abs(terms)
    rounding = table.error + ULP * (np.abs(table.log_moment) + t * abs(epsilon) + len(t) + 16)
    rest = math.exp(_LOG_SMALL) / t[-1] / math.pi
    error = float(size @ np.expm1(rounding)) + rest
    value = float(terms.real.sum())
    log_scale = origin - c * epsilon
    slack = 4 * ULP * (abs(origin) + abs(c * epsilon) + 1)
    slope = -float((terms * z).real.sum()) / value
    upper = math.log(value + error) + log_scale + slack if value + error > 0 else math.inf
    alias = _log_aliases(table, epsilon, 2 * math.pi / step)
    lower = value - error - math.exp(min(alias - log_scale, 700.0))
    log_lower = math.log(lower) + log_scale - slack if lower > 0 else -math.inf
    return LogDelta(log_lower, upper, slope)


def epsilon_ends(table: Line, log_delta: float, start: float) -> tuple[float, float]:
    """The interval of epsilons at which delta may be ``exp(log_delta)``.

    Newton's method finds the place, and each end is then moved out until its bound says so.
    """
    epsilon, slope = _newton(table, log_delta, start)
    upper = _pushed_up(table, log_delta, epsilon, slope)
    lower = epsilon
    push = 1e-15 * (1 + abs(epsilon))
    while (here := log_delta_bounds(table, lower)).lower < log_delta:
        if not here.lower > -math.inf:
            raise OutOfReachError
        lower -= push + max(0.0, (log_delta - here.lower) / -slope)
        push *= 2
    return lower, upper


def upper_end(table: Line, log_delta: float, start: float) -> float:
    """The upper end alone."""
    epsilon, slope = _newton(table, log_delta, start)
    return max(0.0, _pushed_up(table, log_delta, epsilon, slope))


def _newton(table: Line, log_delta: float, start: float) -> tuple[float, float]:
    """About where the upper bound of delta is the target, and its slope there."""
    epsilon = start
    for _ in range(50):
        here = log_delta_bounds(table, epsilon)
        if not (here.upper < math.inf and here.slope < 0):
            raise OutOfReachError
        step = (log_delta - here.upper) / here.slope
        epsilon += step
        if abs(step) <= 1e-14 * (1 + abs(epsilon)):
            break
    return epsilon, min(here.slope, -1e-300)


def _pushed_up(table: Line, log_delta: float, epsilon: float, slope: float) -> float:
    push = 1e-15 * (1 + abs(epsilon))
    while (here := log_delta_bounds(table, epsilon)).upper > log_delta:
        epsilon += push + max(0.0, (here.upper - log_delta) / -slope)
        push *= 2
    return epsilon


def _window(
    c: float, epsilon: float, log_delta: float, beyond: Sequence[tuple[float, float]]
) -> float:
    """A window so wide that the other terms of Poisson's sum do not count."""
    target = log_delta + _LOG_ALIAS
    left = -target / c
    right = min(
        ((k - b * epsilon + _log_peak(b) - target) / (b - c) for b, k in beyond if k < math.inf),
        default=math.inf,
    )
    if not right < math.inf:
        raise OutOfReachError
    return 1.02 * max(left, right, 1e-9)


def _log_aliases(table: Line, epsilon: float, window: float) -> float:
    """The logarithm of a bound on all other terms of Poisson's sum."""
    c = table.c
    left = -c * window - math.log(-math.expm1(-c * window))
    right = min(
        k - b * epsilon + _log_peak(b) - (b - c) * window - math.log(-math.expm1(-(b - c) * window))
        for b, k in table.beyond
    )
    return float(np.logaddexp(left, right))


def _log_peak(c: float) -> float:
    """``log max over u > 0 of exp(-c u) (1 - exp(-u))``: delta <= exp(K(c) - c epsilon) * this."""
    return c * math.log(c) - (c + 1) * math.log1p(c)
