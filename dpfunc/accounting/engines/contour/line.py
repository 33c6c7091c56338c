"""The table of the contour engine: logarithms of moments along ``Re z = c``, proven to suffice.

One table serves a composition released between ``fewest`` and ``most`` times, as the logarithm of
its moments is that of one release times their number: the end is proven for the fewest, the step
is narrow enough for all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.contour.decay import MOST_REACH, require_small_beyond
from dpfunc.accounting.engines.contour.moments import Complex, moments
from dpfunc.accounting.engines.contour.saddle import Saddle, saddle
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

_FARTHER = (1.03, 1.1, 1.25, 1.6, 2.5)  # times c: Chernoff's inequality is tried there


class Parts(NamedTuple):
    """A composition as the engine sees it: mixtures, and all unsampled Gaussians as one."""

    mixtures: tuple[tuple[GaussianMixture, int], ...]
    mu: float

    def repeated(self, times: int) -> "Parts":
        """All of it, ``times`` over."""
        mixtures = tuple((pair, n * times) for pair, n in self.mixtures)
        return Parts(mixtures, self.mu * math.sqrt(times))


class Reach(NamedTuple):
    """How far a table goes: what it leaves out is proven to be this small."""

    log_small: float  # of the characteristic function where the nodes end
    log_alias: float  # of the other terms of Poisson's sum, relative to delta
    effort: float  # places times nodes of the largest table


class Line(NamedTuple):
    """K along one contour, for the fewest releases."""

    c: float
    t: Array  # [k] nodes, from 0
    log_moment: Complex  # [k] K(c + i t)
    error: Array  # [k] of log_moment
    beyond: tuple[tuple[float, float], ...]  # (c', K(c')) with c' > c, for Chernoff's inequality
    rest: float  # a bound on the part of the integral beyond the nodes, over exp(K(c) - c epsilon)


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


def saddle_of_delta(released: Parts, log_delta: float) -> Saddle:
    """Where the contour for this delta should run."""
    return found(saddle(*released, lambda c, k: (k - log_delta - np.log(c * (c + 1))) / c))


def saddle_of_epsilon(released: Parts, epsilon: float) -> Saddle:
    """Where the contour for this epsilon should run."""
    return found(saddle(*released, lambda c, k: k - c * epsilon - np.log(c * (c + 1))))


def found(at: Saddle | None) -> Saddle:
    """The saddle, if there is one within reach."""
    if at is None:
        raise OutOfReachError
    return at


def chernoff_epsilon_at(at: Saddle, log_delta: float) -> float:
    """About the epsilon at the saddle, a little above it."""
    return (at.log_moment - log_delta - math.log(at.c * (at.c + 1))) / at.c


def log_moment(
    released: Parts, c: float, t: Array, accuracy: float = 1e-15, effort: float = 6e6
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


def line(
    released: Parts,
    at: Saddle,
    epsilons: Sequence[tuple[float, float]],
    log_delta: float,
    reach: Reach,
) -> Line:
    """The table for ``released`` along ``Re z = at.c``; or `OutOfReachError`.

    ``epsilons`` lists pairs of a ratio and an epsilon: the table will be asked about ``ratio`` (>=
    1) times as many releases near this epsilon. ``at`` holds the curvature for ``released``.
    """
    beyond = tuple((at.c * f, real_log_moment(released, at.c * f)) for f in _FARTHER)
    windows = [
        _window(at.c, epsilon, log_delta + reach.log_alias, [(b, k * ratio) for b, k in beyond])
        for ratio, epsilon in epsilons
    ]
    step = 2 * math.pi / max(windows)
    count = _end(released, at, step, reach)
    t = np.asarray(np.arange(count) * step, dtype=np.float64)
    values, error = log_moment(released, at.c, t, effort=reach.effort)
    require_small_beyond(
        released.mixtures, released.mu, at.c, float(t[-1]), reach.log_small, reach.effort
    )
    return Line(at.c, t, values, error, beyond, math.exp(reach.log_small) / t[-1] / math.pi)


def _end(released: Parts, at: Saddle, step: float, reach: Reach) -> int:
    """How many nodes it takes until the characteristic function is small; not yet for good."""
    variance = at.curvature + 1 / at.c**2 + 1 / (at.c + 1) ** 2
    end = math.sqrt(-2 * (reach.log_small - 6) / variance)
    for _ in range(40):
        count = math.ceil(end / step) + 1
        if count * 100 > reach.effort:
            raise OutOfReachError
        ends = np.array([0.0, (count - 1) * step])
        values, error = log_moment(released, at.c, ends, 1e-9, effort=reach.effort)
        if values[1].real + error[1] - values[0].real + error[0] <= reach.log_small - 3:
            return count
        end *= 1.3
    raise OutOfReachError


def _window(
    c: float, epsilon: float, target: float, beyond: Sequence[tuple[float, float]]
) -> float:
    """A window so wide that the other terms of Poisson's sum do not count."""
    left = -target / c
    right = min(
        ((k - b * epsilon + log_peak(b) - target) / (b - c) for b, k in beyond if k < math.inf),
        default=math.inf,
    )
    if not right < math.inf:
        raise OutOfReachError
    return 1.02 * max(left, right, 1e-9)


def log_peak(c: float) -> float:
    """``log max over u > 0 of exp(-c u) (1 - exp(-u))``: delta <= exp(K(c) - c epsilon) * this."""
    return -c * math.log1p(1 / c) - math.log1p(c)  # nothing cancels, however large c
