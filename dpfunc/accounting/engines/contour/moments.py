"""Complex moments of the loss of a Gaussian mixture pair, with a proven error.

``M(z) = E_P[exp(z L)]`` for ``z = c + i t``, c > 0. With A and B the densities of P and Q over
N(0, 1), ``M(z) = E[A**(1+z) B**-z]`` under N(0, 1). As ``E[A] = E[B] = 1``, ``M(z) - 1`` is the
expectation of ``f = exp(E) - 1 - (1+z) (A-1) + z (B-1)``, ``E = (1+z) log A - z log B``, which is
of second order in the loss: integrating f keeps relative accuracy where M is 1 + 1e-12, so that M
to the power of a million steps is known as well as M is.

Error. f is analytic and the trapezoid rule with step h errs by at most
``(N(+a) + N(-a)) / (exp(2 pi a / h) - 1)``, N the integral of ``|f|`` along ``Im y = a`` (Trefethen
and Weideman 2014, SIAM Review 56(3), theorem 5.1). Below, N is bounded by monotone factors taken at
the worse end of every cell; what lies beyond the nodes by the geometric decay from there; rounding
by the terms' own size.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.mixture import Component, GaussianMixture, log_weighted
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

Complex = NDArray[np.complex128]

_REACH = 12.0  # standard deviations beyond the last place where the integrand can have its mode
_ANGLE = 1.3  # below pi / 2, so that A and B have no zero in the strip
_MOST_NODES = 40_000
_LITTLE_LEFT = -0.6  # `log_mixture` adds up what is left and the components from log 1/2 on
_LARGE = 1e100
_LOG_ROOT = math.log(2 * math.pi) / 2


class Moments(NamedTuple):
    """``excess`` is M - 1 at ``c + i t``, off by at most ``error``."""

    excess: Complex  # [t]
    error: Array  # [t]

    def log(self) -> Complex:
        """``log M``, with relative accuracy near 0."""
        x, y = np.maximum(self.excess.real, -1 + 1e-300), self.excess.imag
        # numpy's own log1p of a complex number forgets what is below 1e-16.
        size = np.log(np.maximum(np.hypot(1 + x, y), 1e-300))
        # Nearer to -1 the square of |M| cancels, and 1 + x is exact; of large numbers it overflows.
        away = (x > -0.5) & (np.hypot(x, y) < _LARGE)
        size[away] = np.log1p(x[away] * (2 + x[away]) + y[away] * y[away]) / 2
        return np.asarray(size + 1j * np.arctan2(y, 1 + x))

    def log_error(self) -> Array:
        """A bound on the error of `log`, infinite where M may be 0."""
        size = np.abs(1 + self.excess)
        room = np.maximum(size - self.error, 0.0)
        with np.errstate(divide="ignore"):
            return self.error / room + 4 * ULP * np.abs(self.log())


class Grid(NamedTuple):
    """The integrand on the real line, for one c."""

    step: float
    y: Array
    weight: Array  # step * normal density
    log_a: Array
    log_b: Array
    exponent: Array  # (1 + c) log A - c log B


def moments(
    pair: GaussianMixture, c: float, t: Array, accuracy: float, effort: float = 4e6
) -> Moments:
    """M - 1 at ``c + i t`` for all ``t >= 0``, quadrature error at most about ``accuracy``.

    `OutOfReachError` where that takes more than ``effort`` evaluations of the integrand.
    """
    return _sum(pair, c, t, *_fine_enough(pair, c, t, accuracy, effort))


def sizes(
    pair: GaussianMixture, c: float, t: Array, accuracy: float, effort: float = 4e6
) -> tuple[Array, float]:
    """``|M|`` at the same places, and a bound on the error: where M is not as near to 1 as that."""
    return _sizes(pair, c, t, *_fine_enough(pair, c, t, accuracy, effort))


def _fine_enough(
    pair: GaussianMixture, c: float, t: Array, accuracy: float, effort: float
) -> tuple[Grid, float]:
    """A grid on which the trapezoid rule is as accurate, and what it errs by."""
    farthest = float(t[-1]) if len(t) else 0.0
    strip, step = _strip(pair, c, farthest, accuracy)
    for _ in range(30):
        grid = integrand(pair, c, step)
        if len(grid.y) * len(t) > effort:
            break
        quadrature = _quadrature_error(pair, c, farthest, grid, strip)
        if quadrature <= accuracy:
            return grid, quadrature
        step *= 0.8
    raise OutOfReachError


def _strip(pair: GaussianMixture, c: float, t: float, accuracy: float) -> tuple[float, float]:
    """Half the width of the strip, and a step that is likely to do.

    Along ``Im y = a``, ``|exp(i t L)|`` grows like ``exp(t a slope)``. The strip is as wide as
    keeps that below ``exp(15)`` times what the other factors leave.
    """
    reach = max(s for s, _ in pair.above + pair.below) / pair.noise_multiplier
    low, high = _ends(pair, c)
    coarse = integrand(pair, c, (high - low) / 200)
    fall = coarse.y**2 / 2 - coarse.exponent
    fall -= min(0.0, float(fall.min()))
    strip = min(_ANGLE / reach, 2.5)
    if t > 0:
        strip = min(
            strip, float(np.min((15 + fall) / np.maximum(pair.slope(coarse.y), 1e-300))) / t
        )
    return strip, 2 * math.pi * strip / (20.0 - math.log(accuracy))


def _ends(pair: GaussianMixture, c: float) -> tuple[float, float]:
    """Beyond these the integrand falls on either side at least like exp(-12 |y|)."""
    up = max((s for s, _ in pair.above), default=0.0) / pair.noise_multiplier
    down = max((s for s, _ in pair.below), default=0.0) / pair.noise_multiplier
    return -down - _REACH, (1 + c) * up + c * down + _REACH


def integrand(pair: GaussianMixture, c: float, step: float) -> Grid:
    """The parts of f on the real line, over all places that count."""
    low, high = _ends(pair, c)
    if not (high - low) / step < _MOST_NODES:
        raise OutOfReachError
    y = np.asarray(np.arange(math.floor(low / step), math.ceil(high / step) + 1) * step)
    sigma = pair.noise_multiplier
    log_a, log_b = log_weighted(y, sigma, pair.above), log_weighted(-y, sigma, pair.below)
    exponent = (1 + c) * log_a - c * log_b
    if np.max(exponent - y * y / 2) > 600 or np.max(exponent) > 650:
        raise OutOfReachError
    weight = step * np.exp(-y * y / 2 - _LOG_ROOT)
    return Grid(step, y, weight, log_a, log_b, exponent)


def _sum(pair: GaussianMixture, c: float, t: Array, grid: Grid, quadrature: float) -> Moments:
    """The trapezoid sum of f, written so that every part is of second order by itself.

    With ``x = Re E`` and ``theta = t L``: ``exp(E) - 1 - E`` has real part
    ``(exp(x) - 1 - x) - 2 exp(x) sin(theta/2)**2`` and imaginary part ``(exp(x) - 1) sin(theta) +
    (sin(theta) - theta)``; the rest of f is ``(1+z) (log A - (A-1)) - z (log B - (B-1))``.
    """
    weight, x = grid.weight, grid.exponent
    rest_a = weight @ -exp_beyond_first(grid.log_a)  # log A - (A - 1) = -(e**a - 1 - a)
    rest_b = weight @ -exp_beyond_first(grid.log_b)
    real = weight @ exp_beyond_first(x) + (1 + c) * rest_a - c * rest_b
    theta = np.multiply.outer(t, grid.log_a - grid.log_b)  # [t, y]
    half = np.sin(theta / 2)
    sine = np.sin(theta)
    excess = np.empty(len(t), dtype=np.complex128)
    excess.real = real - 2 * (half * half) @ (weight * np.exp(x))
    excess.imag = sine @ (weight * np.expm1(x)) + sine_beyond_first(theta, sine) @ weight
    excess.imag += t * (rest_a - rest_b)
    return Moments(excess, quadrature + _rounding(pair, c, t, grid) + _beyond(c, t, grid))


def _sizes(
    pair: GaussianMixture, c: float, t: Array, grid: Grid, quadrature: float
) -> tuple[Array, float]:
    """The trapezoid sum of ``exp(E)`` itself, which the bounds on that of f hold for as well.

    A term is off by what its exponent is: by `rounding_of_log` times ``|1+z|``, and by ulps of each
    part of it. Adding up costs twice as many ulps as there are terms, for both parts together.
    """
    theta = np.multiply.outer(t, grid.log_a - grid.log_b)  # [t, y]
    terms = grid.weight * np.exp(grid.exponent)
    size = np.hypot(np.cos(theta) @ terms, np.sin(theta) @ terms)
    z = abs(1 + c + 1j * float(t[-1]))
    of_exponent = z * (_of_logs(pair, grid) + 4 * (np.abs(grid.log_a) + np.abs(grid.log_b)))
    per_term = of_exponent + 2 * len(grid.y) + 32 + grid.y * grid.y
    beyond = float(_beyond(c, t[-1:], grid)[0])
    return np.asarray(size), quadrature + float(terms @ per_term) * ULP + beyond


def exp_beyond_first(x: Array) -> Array:
    """``exp(x) - 1 - x`` to relative accuracy."""
    small = np.where(np.abs(x) < 0.3, x, 0.0)
    series = np.ones_like(small)
    for k in range(13, 2, -1):
        series = 1 + series * small / k
    return np.where(np.abs(x) < 0.3, small * small / 2 * series, np.expm1(x) - x)


def sine_beyond_first(theta: Array, sine: Array) -> Array:
    """``sin(theta) - theta`` to relative accuracy, given the sine."""
    square = np.minimum(theta * theta, 0.25)
    series = np.ones_like(square)
    for k in (12, 10, 8, 6, 4):
        series = 1 - series * square / (k * (k + 1))
    return np.where(theta * theta < 0.25, -theta * square / 6 * series, sine - theta)


def _rounding(pair: GaussianMixture, c: float, t: Array, grid: Grid) -> Array:
    """A bound on what rounding did to the sum.

    To first order f changes by ``(1+z) (exp(E) - A)`` times the error of log A, and likewise for B;
    ``|exp(E) - 1| <= max(1, exp(Re E)) |E|`` and ``|E| <= |1+z| (|log A| + |log B|)``. Each term
    has an error of a few ulp of itself, more where its exponents are large, and is added up at
    most len(y) times.
    """
    size = np.abs(grid.log_a) + np.abs(grid.log_b)
    most = np.maximum(1.0, np.exp(grid.exponent)) + np.exp(grid.log_a) + np.exp(grid.log_b)
    of_logs = _of_logs(pair, grid)
    per_term = 2 * len(grid.y) + 32 + grid.y * grid.y + np.abs(grid.exponent)

    def bound(z: float) -> float:
        near = np.minimum(z * size, 2.0)  # |exp(E) - 1| <= max(1, exp(Re E)) min(|E|, 2)
        of_terms = near * z * size * per_term
        return float(grid.weight @ (most * (of_terms + near * z * of_logs))) * ULP

    size_z = np.abs(1 + c + 1j * t)
    # The bound grows with |1+z|, but no faster than its square.
    return np.asarray(np.minimum(bound(size_z[0]) * (size_z / size_z[0]) ** 2, bound(size_z[-1])))


def _of_logs(pair: GaussianMixture, grid: Grid) -> Array:
    """What both logarithms are off by, in ulp."""
    sigma = pair.noise_multiplier
    of_a = rounding_of_log(grid.y, grid.log_a, sigma, pair.above)
    return 8 * (of_a + rounding_of_log(-grid.y, grid.log_b, sigma, pair.below))


def rounding_of_log(
    y: Array, log_a: Array, noise_multiplier: float, components: tuple[Component, ...]
) -> Array:
    """The condition of `log_weighted`: its error in ulp, up to a small factor.

    Where little is left of the mixture, it is 1 less a sum of weights, which is off by an ulp of 1.
    """
    little = np.where(log_a < _LITTLE_LEFT, np.exp(np.clip(-log_a, 0.0, 40.0)), 0.0)
    total = np.abs(log_a) + little
    for s, w in components:
        place = s / noise_multiplier
        exponent = place * y - place * place / 2
        moved = np.exp(math.log(w) + exponent - log_a)
        total += moved * np.minimum(np.abs(exponent), 1.0) + w * np.exp(-np.maximum(log_a, 0)) * (
            np.minimum(np.abs(exponent), 1.0)
        )
        total += moved * (np.abs(place * y) + place * place / 2)
    return np.asarray(total)


def _beyond(c: float, t: Array, grid: Grid) -> Array:
    """A bound on the integral of |f| and on the sum of its terms beyond the nodes."""
    one = np.abs(1 + c + 1j * t)
    ends = grid.weight[[0, -1]] / grid.step
    a, b = np.exp(grid.log_a[[0, -1]]), np.exp(grid.log_b[[0, -1]])
    at_ends = np.exp(grid.exponent[[0, -1]]) + 1
    constant, linear = ends @ at_ends, ends @ (a + b + 2)
    return np.asarray((constant + one * linear) * (grid.step + 2 / _REACH))


def _quadrature_error(pair: GaussianMixture, c: float, t: float, grid: Grid, strip: float) -> float:
    """The theorem's bound: both lines have the same N, by symmetry."""
    reach_out = math.exp(strip * strip / 2)  # |density(y + ia)| over density(y)
    angle_a, _ = _turn(grid.y, pair.noise_multiplier, pair.above, strip)
    angle_b, cos_b = _turn(-grid.y, pair.noise_multiplier, pair.below, strip)
    nearest = np.minimum(np.abs(grid.y[:-1]), np.abs(grid.y[1:]))  # 0 is a node
    highest = -nearest * nearest / 2 - _LOG_ROOT
    # A, its argument and 1/B grow with y, B's argument falls: each at the worse end of the cell.
    log_most = grid.exponent[1:] - c * np.log(cos_b[:-1]) + t * (angle_a[1:] + angle_b[:-1])
    with np.errstate(over="ignore"):
        inside = grid.step * float(np.sum(np.exp(highest + log_most)))
        turn = t * (angle_a.max() + angle_b.max()) - c * math.log(cos_b.min())
        ends = np.exp((grid.exponent - grid.y * grid.y / 2)[[0, -1]] - _LOG_ROOT + turn)
    along = reach_out * (inside + float(ends.sum()) * 2 / _REACH + 1 + 4 * abs(1 + c + 1j * t))
    return 2 * along / math.expm1(min(700.0, 2 * math.pi * strip / grid.step))


def _turn(
    y: Array, noise_multiplier: float, components: tuple[Component, ...], strip: float
) -> tuple[Array, Array]:
    """At ``y + i strip``: a bound on the argument of the mixture, and on the cosine it shrinks by.

    With shares p of the components at y, the mixture is the sum of ``p exp(i s strip / sigma)``
    times its value at y: at least the mean cosine in size, and turned by at most the angle whose
    tangent is the mean sine over the mean cosine. The shares move to larger shifts as y grows.
    """
    if not components:
        return np.zeros_like(y), np.ones_like(y)
    total = log_weighted(y, noise_multiplier, components)
    sine, versine = np.zeros_like(y), np.zeros_like(y)
    for s, w in components:
        place = s / noise_multiplier
        share = w * np.exp(place * y - place * place / 2 - total)
        sine += share * math.sin(place * strip)
        versine += share * (1 - math.cos(place * strip))
    cosine = 1 - np.minimum(versine, 1 - math.cos(_ANGLE))
    return np.arctan2(sine, cosine) * (1 + 1e-9), cosine * (1 - 1e-9)
