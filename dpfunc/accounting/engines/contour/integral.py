"""The contour engine: delta as an integral over moments, without a grid of losses.

``delta(epsilon) = 1 / (2 pi i) * integral of exp(K(z) - z epsilon) / (z (z + 1)) dz`` along
``Re z = c > 0``, with ``K(z)`` the sum of ``times * log M(z)`` over the parts (Alghamdi et al.
2023, "The saddle-point method in differential privacy", ICML; here without their approximation).
`line` tabulates K and proves where the table may end (`decay`); `inversion` integrates.
"""

import math
from collections.abc import Sequence

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.contour.inversion import epsilon_ends, log_delta_bounds
from dpfunc.accounting.engines.contour.line import (
    Parts,
    Reach,
    chernoff_epsilon_at,
    line,
    log_peak,
    parts,
    real_log_moment,
    saddle_of_delta,
    saddle_of_epsilon,
)
from dpfunc.accounting.engines.contour.saddle import Saddle
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

Interval = tuple[float, float]

QUICK = Reach(log_small=-40.0, log_alias=-34.0, effort=1e6)
THOROUGH = QUICK._replace(effort=6e6)
_TRIED = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # c of Chernoff's inequality


def just_enough(tol: float) -> Reach:
    """Where what is left out is well below a relative width of ``tol``, and not much more."""
    log_small = max(QUICK.log_small, math.log(tol) - 12)
    return Reach(log_small, log_small + 4, QUICK.effort)


def epsilon_interval(composition: Composition, log_delta: float, reach: Reach) -> Interval:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``; or `OutOfReachError`."""
    lower, upper = epsilon_intervals(composition, [1], log_delta, reach)
    return float(lower[0]), float(upper[0])


def epsilon_intervals(
    once: Composition, times: Sequence[int], log_delta: float, reach: Reach
) -> tuple[Array, Array]:
    """`epsilon_interval` of ``once``, released as often as each of the increasing ``times`` says.

    One table serves all of them. It is as large as the most releases need, and ends where the
    fewest allow, so that they should be near each other.
    """
    fewest, most = times[0], times[-1]
    few = parts(once).repeated(fewest)
    ratio = np.asarray(times, dtype=np.float64) / fewest
    at = _between(parts(once), fewest, most, log_delta)
    start = np.array([chernoff_epsilon_at(_repeated(at, r), log_delta) for r in (1.0, ratio[-1])])
    table = line(few, at, list(zip((1.0, ratio[-1]), start, strict=True)), log_delta, reach)
    about = np.interp(ratio, (1.0, max(ratio[-1], 1 + 1e-9)), start)
    lower, upper = epsilon_ends(table, ratio, log_delta, about)
    return np.maximum(lower, 0.0), np.maximum(upper, 0.0)


def log_delta_interval(composition: Composition, epsilon: float, reach: Reach) -> Interval:
    """Bounds of ``log delta`` at ``epsilon``; or `OutOfReachError`."""
    released = parts(composition)
    at = saddle_of_epsilon(released, epsilon)
    # At the saddle delta is about exp(K - c epsilon) / (c (c+1)) over a few standard deviations.
    about = min(0.0, at.log_moment - at.c * epsilon - math.log(at.c * (at.c + 1)) - 4.0)
    table = line(released, at, [(1.0, epsilon)], about, reach)
    bounds = log_delta_bounds(table, np.ones(1), np.array([epsilon]))
    return float(bounds.lower[0]), min(0.0, float(bounds.upper[0]))


def log_delta_at_most(composition: Composition, epsilon: float) -> float:
    """A bound of ``log delta`` by Chernoff's inequality; infinite where there is none."""
    try:
        released = parts(composition)
    except OutOfReachError:
        return math.inf
    bounds = ((real_log_moment(released, c), c * epsilon, log_peak(c)) for c in _TRIED)
    return min(k - tilt + peak + 8 * ULP * (abs(k) + tilt + abs(peak)) for k, tilt, peak in bounds)


def rough_epsilon(composition: Composition, log_delta: float) -> float:
    """About the epsilon, by the saddle-point approximation: an estimate, not a bound."""
    try:
        released = parts(composition)
        c, k, curvature = saddle_of_delta(released, log_delta)
    except OutOfReachError:
        return math.inf
    spread = math.log(2 * math.pi * (curvature + 1 / c**2 + 1 / (c + 1) ** 2)) / 2
    return max(0.0, (k - log_delta - math.log(c * (c + 1)) - spread) / c)


def _between(once: Parts, fewest: int, most: int, log_delta: float) -> Saddle:
    """A contour that suits all numbers of releases; K and curvature are those of the fewest."""
    middle = math.isqrt(fewest * most)
    return _repeated(saddle_of_delta(once.repeated(middle), log_delta), fewest / middle)


def _repeated(at: Saddle, ratio: float) -> Saddle:
    return Saddle(at.c, at.log_moment * ratio, at.curvature * ratio)
