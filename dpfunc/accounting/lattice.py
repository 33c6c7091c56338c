"""The lattice engine: losses on an equidistant grid, added by a tilted FFT. Serves every pair.

``delta(epsilon) = K**T * sum over losses above epsilon of tilted probability * e**(-c loss) *
(1 - e**(epsilon - loss))``, with the law of `lattice_law` on the grid of `lattice_grid`: nothing is
lost at 1e-12, nor at 1e-100.

Error: the discretisation is a bound in itself (`atoms`); what falls outside the window of the
transform is bounded by Chernoff's inequality and counted on both ends; and so is rounding, by
the 2-norm error of an FFT (Higham 2002, Accuracy and Stability, section 24.1).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.lattice_grid import MOST_POINTS, Grid, log_peak, plan
from dpfunc.accounting.lattice_law import Law, Spectrum, spectrum
from dpfunc.accounting.pair import ULP, OutOfReachError

Interval = tuple[float, float]

_CUT = 1e-26  # weights below this are left out of sums, and counted as an error


class Laws(NamedTuple):
    """What one grid knows: the same composition from above and from below."""

    grid: Grid
    above: Spectrum
    below: Spectrum

    def interval(self, times: int, log_delta: float, guess: float, both: bool = True) -> Interval:
        """The ends of epsilon; without ``both`` the lower one is 0."""
        tol = self.grid.tol
        at = partial(log_delta_above, self.above.law(times))
        most = _least_safe(at, log_delta, guess, tol)
        if not (both and most < math.inf):
            return 0.0, most
        at = partial(log_delta_below, self.below.law(times))
        return _most_unsafe(at, log_delta, most, tol), most

    def is_rounded(self, times: Sequence[int], epsilons: Sequence[float], tol: float) -> bool:
        """Whether rounding alone moves one of these upper ends by as much as ``tol``, nearly."""
        for n, epsilon in zip(times, epsilons, strict=True):
            law = self.above.law(n)
            if epsilon < math.inf:
                kept, weight = _kept(law, epsilon - law.shift)
            if epsilon == math.inf or law.error * weight > 0.1 * tol * law.c * epsilon * kept:
                return True
        return False


def laws_on(grid: Grid, once: Composition, *, fewest: int = 1, sharp: bool = True) -> Laws:
    """The composition cut down to a grid that was planned for it."""
    above, below = (
        spectrum(once, grid, cut, fewest=fewest, sharp=sharp) for cut in (upper_atoms, lower_atoms)
    )
    return Laws(grid, above, below)


def log_delta_interval(composition: Composition, epsilon: float, tol: float) -> Interval:
    """Bounds of ``log delta``, about ``tol`` apart in terms of epsilon."""
    grid = plan(composition, tol, epsilon=epsilon)
    return (
        log_delta_below(spectrum(composition, grid, lower_atoms).law(1), epsilon),
        log_delta_above(spectrum(composition, grid, upper_atoms).law(1), epsilon),
    )


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> Interval:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``.

    The grid is refined until they are within ``tol``, relative, or it reaches its largest size.
    """
    _, ends = _fine_enough(composition, (1,), log_delta, tol, MOST_POINTS)
    return ends[0]


def epsilon_intervals(
    once: Composition,
    times: Sequence[int],
    log_delta: float,
    tol: float,
    *,
    most_points: int = MOST_POINTS,
    both: bool = True,
) -> list[Interval]:
    """`epsilon_interval` of ``once``, released as often as each of the increasing ``times`` says.

    One grid, fine enough for the fewest and the most, serves all of them, and so do its two
    transforms. Without ``both`` the lower ends in between are 0.
    """
    outer = tuple(dict.fromkeys((times[0], times[-1])))
    laws, ends = _fine_enough(once, outer, log_delta, tol, most_points)
    found = [ends[0]]
    for n in times[1:-1]:
        found.append(laws.interval(n, log_delta, _ahead(times, found, laws.grid), both))
    return found + ends[1:]


def _fine_enough(
    once: Composition, times: tuple[int, ...], log_delta: float, tol: float, most_points: int
) -> tuple[Laws, list[Interval]]:
    """Laws from above and from below for these times, close enough to each other if that can be.

    Transforms by FFT alone are quick; where their rounding shows they are sharpened.
    """
    span = {"fewest": times[0], "most": times[-1]}
    try:
        grid = plan(once, tol / 4, log_delta=log_delta, **span)  # few releases come out wider
    except OutOfReachError:
        grid = plan(once, tol, log_delta=log_delta, **span)
    sharp, best = False, [(0.0, math.inf)] * len(times)
    for _ in range(5):
        laws = laws_on(grid, once, fewest=times[0], sharp=sharp)
        guesses = [min(most, grid.epsilon) for _, most in best]
        found = [laws.interval(n, log_delta, g) for n, g in zip(times, guesses, strict=True)]
        best = [(max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(best, found, strict=True)]
        excess = max(map(_width, best)) / tol
        if excess <= 1:
            break
        if not sharp and laws.is_rounded(times, [most for _, most in best], tol):
            sharp = True
            continue
        if grid.points >= 0.9 * most_points:
            break
        # The number of points grows with the root of 1 / tol.
        finer = max(grid.tol / 2 / excess, grid.tol * (grid.points / most_points) ** 2)
        known = best[0][1] if len(times) == 1 else math.nan
        try:
            grid = plan(once, finer, log_delta=log_delta, epsilon=known, **span)
        except OutOfReachError:
            break
    return laws, best


def log_delta_above(law: Law, epsilon: float) -> float:
    """The logarithm of an upper bound of delta, from atoms that bound from above."""
    kept, weight = _kept(law, epsilon - law.shift)
    log_scale = law.log_scale - law.c * (epsilon - law.shift) + law.relative
    value = max(0.0, kept) + law.error * weight + law.outside * math.exp(log_peak(law.c)) + _CUT
    return min(0.0, _log_sum(value, log_scale, law.infinite))


def log_delta_below(law: Law, epsilon: float) -> float:
    """The logarithm of a lower bound of delta, from atoms that bound from below."""
    kept, weight = _kept(law, epsilon + law.shift)
    value = kept - law.error * weight - law.outside * math.exp(log_peak(law.c))
    log_scale = law.log_scale - law.c * (epsilon + law.shift) - law.relative
    return _log_sum(value, log_scale, law.infinite * (1 - 32 * ULP))


def _log_sum(value: float, log_scale: float, infinite: float) -> float:
    """``log(value exp(log_scale) + infinite)``; a value that is not above 0 counts as 0."""
    finite = math.log(value) + log_scale if value > 0 else -math.inf
    return float(np.logaddexp(finite, math.log(infinite) if infinite > 0 else -math.inf))


class _Place(NamedTuple):
    """An epsilon, and by how much the condition fails there; at most 0 where it holds."""

    epsilon: float
    excess: float


def _ahead(times: Sequence[int], found: Sequence[Interval], grid: Grid) -> float:
    """About where the next upper end is: on the line through the last two."""
    last = found[-1][1]
    if len(found) == 1 or not last < math.inf:
        return min(last, grid.epsilon)
    before, here, following = times[len(found) - 2 : len(found) + 1]
    return max(0.0, last + (last - found[-2][1]) / (here - before) * (following - here))


def _width(ends: Interval) -> float:
    """Relative; of no use to ask for less where the upper end is 0 or infinite."""
    return (ends[1] - ends[0]) / ends[1] if 0 < ends[1] < math.inf else 0.0


def _least_safe(
    log_delta_at: Callable[[float], float], log_delta: float, guess: float, tol: float
) -> float:
    """The least epsilon >= 0, nearly, at which the upper bound proves the target."""

    def at(epsilon: float) -> _Place:
        return _Place(epsilon, log_delta_at(epsilon) - log_delta)

    step = 1e-4 * guess + 1e-9
    low = high = at(guess)
    while high.excess > 0:
        low, high, step = high, at(high.epsilon + step), 4 * step
        if high.epsilon > 1e12:
            return math.inf
    while low.excess <= 0:
        if low.epsilon <= 0:
            return 0.0
        low, high, step = at(max(0.0, low.epsilon - step)), low, 4 * step
    return _next_to(at, high, low, tol)


def _most_unsafe(
    log_delta_at: Callable[[float], float], log_delta: float, most: float, tol: float
) -> float:
    """The largest epsilon, nearly, at which the lower bound disproves the target; 0 if none."""

    def at(epsilon: float) -> _Place:
        return _Place(epsilon, log_delta - log_delta_at(epsilon))

    step = 0.25 * tol * most
    low = high = at(most)
    while low.excess > 0:
        if low.epsilon <= 0:
            return 0.0
        low, high, step = at(max(0.0, low.epsilon - step)), low, 4 * step
    return _next_to(at, low, high, tol)


def _next_to(at: Callable[[float], _Place], good: _Place, bad: _Place, tol: float) -> float:
    """A place where the condition holds, next to one where it does not.

    Each step draws the farther of the two to where a straight line between them crosses 0.
    """
    for turn in range(200):
        room = 0.02 * tol * good.epsilon
        gap = good.epsilon - bad.epsilon
        if abs(gap) <= room:
            break
        share = good.excess / (good.excess - bad.excess)  # of the way from good to bad
        share += math.copysign(0.45 * room / abs(gap), 0.5 - share)
        if turn % 5 == 4 or bad.excess == math.inf or not 0 < share < 1:
            share = 0.5
        here = at(good.epsilon - share * gap)
        good, bad = (here, bad) if here.excess <= 0 else (good, here)
    return good.epsilon


def _kept(law: Law, epsilon: float) -> tuple[float, float]:
    """Sums of ``exp(-c u) (1 - exp(-u))`` over losses ``epsilon + u``: with p, and without."""
    start = max(0, math.ceil((epsilon - law.first) / law.step))
    stop = min(len(law.p), start + math.ceil(-math.log(_CUT) / law.c / law.step))
    u = law.first + law.step * np.arange(start, stop) - epsilon
    weights = np.exp(-law.c * u) * -np.expm1(-u)
    return float(law.p[start:stop] @ weights), float(weights.sum())
