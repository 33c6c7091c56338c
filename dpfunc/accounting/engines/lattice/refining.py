"""The lattice engine: losses on an equidistant grid, added by a tilted FFT. Serves every pair.

``delta(epsilon) = K**T * sum over losses above epsilon of tilted probability * e**(-c loss) *
(1 - e**(epsilon - loss))``, with the law of `lattice_law` on the grid of `lattice_grid`, summed by
`lattice_sums`: nothing is lost at 1e-12, nor at 1e-100.

Error: the discretisation is a bound in itself (`atoms`); what falls outside the window of the
transform is bounded by Chernoff's inequality and counted on both ends; and so is rounding, by
the 2-norm error of an FFT (Higham 2002, Accuracy and Stability, section 24.1).
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.lattice.grid import MOST_POINTS, Grid, plan
from dpfunc.accounting.engines.lattice.law import Spectrum, spectrum
from dpfunc.accounting.engines.lattice.sums import ABOVE, BELOW, Side, epsilons, log_delta_at
from dpfunc.accounting.pairs.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError

Interval = tuple[float, float]
Ends = tuple[Array, Array]

_NEAR = 2  # counts up to this ratio share a grid however large it is
_MOST_SHARED = 2**20  # points of the grid of all others
_MOST_ROUNDING = 0.3  # of tol: more, and transforms are sharpened


class _Laws(NamedTuple):
    """What one grid knows: the same composition from above and from below."""

    above: Spectrum
    below: Spectrum


def log_delta_interval(composition: Composition, epsilon: float, tol: float) -> Interval:
    """Bounds of ``log delta``, about ``tol`` apart in terms of epsilon."""
    grid = plan(composition, tol, epsilon=epsilon)
    return (
        log_delta_at(spectrum(composition, grid, lower_atoms), epsilon, BELOW),
        log_delta_at(spectrum(composition, grid, upper_atoms), epsilon, ABOVE),
    )


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> Interval:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``.

    The grid is refined until they are within ``tol``, relative, or it reaches its largest size.
    """
    _, (lower, upper) = _fine_enough(composition, (1,), log_delta, tol)
    return float(lower[0]), float(upper[0])


def epsilon_intervals(
    once: Composition, times: Sequence[int], log_delta: float, tol: float, *, both: bool = True
) -> Ends:
    """`epsilon_interval` of ``once``, released as often as each of the increasing ``times`` says.

    One grid, fine enough for the fewest and the most, serves all of them, and so do its two
    transforms. Without ``both`` the lower ends in between are 0. `OutOfReachError` where the counts
    are so far apart that this grid would be too large.
    """
    outer = tuple(dict.fromkeys((times[0], times[-1])))
    is_wide = times[-1] > _NEAR * times[0]
    most_points = _MOST_SHARED if is_wide else MOST_POINTS
    laws, (least, most) = _fine_enough(once, outer, log_delta, tol, most_points)
    if is_wide and _widths(least, most).max() > tol:
        raise OutOfReachError
    lower, upper = np.zeros(len(times)), np.full(len(times), math.inf)
    if most[0] < math.inf and most[-1] < math.inf:
        upper = epsilons(laws.above, times, log_delta, most[[0, -1]], ABOVE).epsilon
        if both:
            lower = epsilons(laws.below, times, log_delta, least[[0, -1]], BELOW).epsilon
    lower[[0, -1]] = np.maximum(lower[[0, -1]], least[[0, -1]])
    upper[[0, -1]] = np.minimum(upper[[0, -1]], most[[0, -1]])
    return lower, upper


def _fine_enough(
    once: Composition,
    times: tuple[int, ...],
    log_delta: float,
    tol: float,
    most_points: int = MOST_POINTS,
) -> tuple[_Laws, Ends]:
    """Laws from above and from below for these times, close enough to each other if that can be.

    Transforms by FFT alone are quick; where their rounding shows they are sharpened.
    """
    span = {"fewest": times[0], "most": times[-1]}
    grid = _planned(once, tol / 4, log_delta, span, math.nan)  # few releases come out wider
    grid = grid or plan(once, tol, log_delta=log_delta, **span)
    if grid.points > most_points:
        raise OutOfReachError
    sharp, lower, upper = False, np.zeros(len(times)), np.full(len(times), math.inf)
    excess = math.inf
    for _ in range(4):
        guesses = np.minimum(upper, grid.epsilon)[[0, -1]]
        cut = partial(spectrum, once, grid, fewest=times[0])
        above = cut(upper_atoms, sharp=sharp)
        most, by_rounding = _or_nothing(above, times, log_delta, guesses, ABOVE)
        if not sharp and by_rounding > _MOST_ROUNDING * tol:
            sharp, above = True, cut(upper_atoms, sharp=True)
            most, _ = _or_nothing(above, times, log_delta, guesses, ABOVE)
        below = cut(lower_atoms, sharp=sharp)
        least, _ = _or_nothing(below, times, log_delta, np.minimum(most, guesses), BELOW)
        lower, upper = np.maximum(lower, least), np.minimum(upper, most)
        before, excess = excess, float(_widths(lower, upper).max()) / tol
        is_stuck = excess > 0.8 * before  # some losses lie on no lattice
        if excess <= 1 or is_stuck or grid.points >= 0.9 * most_points:
            break
        # The number of points grows with the root of 1 / tol.
        finer = max(grid.tol / 2 / excess, grid.tol * (grid.points / most_points) ** 2)
        known = float(upper[0]) if len(times) == 1 else math.nan
        finer_grid = _planned(once, finer, log_delta, span, known, math.nan)
        if finer_grid is None:
            break
        grid = finer_grid
    return _Laws(above, below), (lower, upper)


def _planned(
    once: Composition, tol: float, log_delta: float, span: dict[str, int], *epsilons: float
) -> Grid | None:
    """The grid for the first of these guesses (NaN: none) for which there is one."""
    for epsilon in epsilons:
        with suppress(OutOfReachError):
            return plan(once, tol, log_delta=log_delta, epsilon=epsilon, **span)
    return None


def _or_nothing(
    law: Spectrum, times: Sequence[int], log_delta: float, guesses: Array, side: Side
) -> tuple[Array, float]:
    """The ends, and how far rounding moved one of them; 0 or infinity where there is none."""
    try:
        found, by_rounding = epsilons(law, times, log_delta, guesses, side)
    except OutOfReachError:
        return np.full(len(times), math.inf if side > 0 else 0.0), math.inf
    return found, float(by_rounding.max())


def _widths(lower: Array, upper: Array) -> Array:
    """Relative; of no use to ask for less where the upper end is 0 or infinite."""
    wide = np.zeros(len(upper))
    counts = (upper > 0) & (upper < math.inf)
    wide[counts] = 1 - lower[counts] / upper[counts]
    return wide
