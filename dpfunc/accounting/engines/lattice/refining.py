"""The lattice engine: losses on an equidistant grid, added by a tilted FFT. Serves every pair.

``delta(epsilon) = K**T * sum over losses above epsilon of tilted probability * e**(-c loss) *
(1 - e**(epsilon - loss))``, with the law of `law` on the grid of `grid`, summed by `sums`: nothing
is lost at 1e-12, nor at 1e-100.

Error: the discretisation is a bound in itself (`atoms`); what falls outside the window of the
transform is bounded by Chernoff's inequality and counted on both ends; and so is rounding, by
the 2-norm error of an FFT (Higham 2002, Accuracy and Stability, section 24.1).

There is one path. A question is epsilon at a delta, or delta at an epsilon: it plans a grid, reads
its answer off the laws from above and from below, and a finer grid follows until both agree.
Cells that are known to an absolute error only get no finer grid: it would have more of them.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.contour.estimates import about_epsilon
from dpfunc.accounting.engines.lattice.grid import MOST_POINTS, Grid, plan
from dpfunc.accounting.engines.lattice.kernel import kernel
from dpfunc.accounting.engines.lattice.law import Spectrum, spectrum
from dpfunc.accounting.engines.lattice.sums import (
    ABOVE,
    BELOW,
    Side,
    epsilons,
    log_delta_at,
    outside,
)
from dpfunc.accounting.pairs.allocation.gaussian_allocation import GaussianAllocation
from dpfunc.accounting.pairs.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError

Interval = tuple[float, float]
Ends = tuple[Array, Array]

_NEAR = 2  # counts up to this ratio share a grid however large it is
_MOST_SHARED = 2**20  # points of the grid of all others
_MOST_ROUNDING = 0.3  # of tol: more, and transforms are sharpened
_LIKE_SHIFT = 1.5  # times the width that rounding of losses alone makes: not worth a finer grid
_MOST_OUTSIDE = 1e-9  # of tilted probability, outside the window of cells that are not sharp
_MISSED = 0.5  # by how much log delta falls from the epsilon a grid was made for to the answer
_LOG_NO_DELTA = -60.0  # below this nobody needs to know it better
_MOST_FOR_NOTHING = 2**18  # points
_USUAL_LOG_DELTAS = (-25.0, -10.0)
_FAR_MISSED = 15.0  # by how much the log delta a grid was made for is below the answer


class _Laws(NamedTuple):
    """What one grid knows: the same composition from above and from below."""

    above: Spectrum
    below: Spectrum


class _Question(Protocol):
    """What is asked of a composition after some numbers of releases, with its known bounds."""

    @property
    def times(self) -> Sequence[int]:
        """How often the composition is released, in increasing order."""

    @property
    def widest(self) -> Ends:
        """Ends that hold before anything is known."""

    def grid(self, once: Composition, tol: float, known: float) -> Grid:
        """A grid for the question, if the answer is about ``known`` (NaN: nothing is known)."""

    def guesses(self, once: Composition) -> Sequence[float]:
        """What the answer may be about, likeliest first; NaN: nothing is known of it."""

    def read(self, law: Spectrum, side: Side, known: Array) -> tuple[Array, float]:
        """One end of the answers, and about how far rounding moved it, in units of tol."""

    def widths(self, lower: Array, upper: Array) -> Array:
        """How far the ends are apart, in units of tol."""

    def moved(self, shift: float, upper: Array, c: float) -> float:
        """How far apart they are, about, if every loss of the composition is off by ``shift``."""

    def points(self, upper: Array, most: int) -> int:
        """How many of the most points the answer is worth."""

    def is_missed(self, grid: Grid, upper: Array) -> bool:
        """Whether the grid was made for another answer, and one can be made for this."""


class _Epsilon(NamedTuple):
    """The smallest epsilon at a delta, for several numbers of releases."""

    times: Sequence[int]
    log_delta: float

    @property
    def widest(self) -> Ends:
        return np.zeros(len(self.times)), np.full(len(self.times), math.inf)

    def grid(self, once: Composition, tol: float, known: float) -> Grid:
        span = {"fewest": self.times[0], "most": self.times[-1]}
        if len(self.times) > 1:
            known = math.nan
        return plan(once, tol, log_delta=self.log_delta, epsilon=known, **span)

    def guesses(self, once: Composition) -> Sequence[float]:
        if len(self.times) > 1:
            return (math.nan,)
        found = about_epsilon(tuple((p, n * self.times[0]) for p, n in once), self.log_delta)
        return (found if 0 < found < math.inf else math.nan, math.nan)

    def read(self, law: Spectrum, side: Side, known: Array) -> tuple[Array, float]:
        guesses = np.minimum(known, law.grid.epsilon)[[0, -1]]
        try:
            found, by_rounding = epsilons(law, self.times, self.log_delta, guesses, side)
        except OutOfReachError:
            return self.widest[0 if side < 0 else 1], math.inf
        return found, float(by_rounding.max())

    def widths(self, lower: Array, upper: Array) -> Array:
        """Relative; of no use to ask for less where the upper end is 0 or infinite."""
        wide = np.zeros(len(upper))
        counts = (upper > 0) & (upper < math.inf)
        wide[counts] = 1 - lower[counts] / upper[counts]
        return wide

    def moved(self, shift: float, upper: Array, c: float) -> float:  # noqa: ARG002  # `_Question` has it
        least = float(upper.min())
        return self.times[-1] * shift / least if 0 < least < math.inf else 0.0

    def points(self, upper: Array, most: int) -> int:  # noqa: ARG002  # `_Question` has it
        return most

    def is_missed(self, grid: Grid, upper: Array) -> bool:
        if len(self.times) > 1 or not 0 < upper[0] < math.inf:
            return False
        return grid.c * abs(float(upper[0]) - grid.epsilon) > _MISSED


class _LogDelta(NamedTuple):
    """The logarithm of delta at an epsilon, after the composition once over."""

    epsilon: float

    @property
    def times(self) -> Sequence[int]:
        return (1,)

    @property
    def widest(self) -> Ends:
        return np.array([-math.inf]), np.zeros(1)

    def grid(self, once: Composition, tol: float, known: float) -> Grid:
        log_delta = known if -600 < known < 0 else math.nan
        return plan(once, tol, epsilon=self.epsilon, log_delta=log_delta)

    def guesses(self, once: Composition) -> Sequence[float]:  # noqa: ARG002  # `_Question` has it
        """Unknown; or a usual one, for which losses of no weight next to it may be too large."""
        return (math.nan, *_USUAL_LOG_DELTAS)

    def read(self, law: Spectrum, side: Side, known: Array) -> tuple[Array, float]:  # noqa: ARG002
        found, by_rounding = log_delta_at(law, self.epsilon, side)
        return np.array([found]), by_rounding / max(1.0, -found)

    def widths(self, lower: Array, upper: Array) -> Array:
        """Of the logarithm, relative to its size where that is above 1."""
        if upper[0] == -math.inf:
            return np.zeros(1)
        return (upper - lower) / np.maximum(1.0, -upper)

    def moved(self, shift: float, upper: Array, c: float) -> float:
        return c * shift / max(1.0, -float(upper[0]))

    def points(self, upper: Array, most: int) -> int:
        return most if float(upper[0]) > _LOG_NO_DELTA else min(most, _MOST_FOR_NOTHING)

    def is_missed(self, grid: Grid, upper: Array) -> bool:
        return float(upper[0]) < 0 and float(upper[0]) - grid.log_delta > _FAR_MISSED


def log_delta_interval(composition: Composition, epsilon: float, tol: float) -> Interval:
    """Bounds of ``log delta``, refined like those of epsilon."""
    _, (lower, upper) = _fine_enough(composition, _LogDelta(epsilon), tol)
    return float(lower[0]), float(upper[0])


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> Interval:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``.

    The grid is refined until they are within ``tol``, relative, or it reaches its largest size.
    """
    _, (lower, upper) = _fine_enough(composition, _Epsilon((1,), log_delta), tol)
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
    question = _Epsilon(outer, log_delta)
    laws, (least, most) = _fine_enough(once, question, tol, most_points)
    if is_wide and question.widths(least, most).max() > tol:
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
    once: Composition, question: _Question, tol: float, most_points: int = MOST_POINTS
) -> tuple[_Laws, Ends]:
    """Laws from above and from below, close enough to each other if that can be; and the ends.

    Transforms by FFT alone are quick; where their rounding shows they are sharpened.
    """
    is_rough = any(isinstance(pair, GaussianAllocation) for pair, _ in once)
    guesses = () if is_rough else question.guesses(once)
    grid = _planned(once, question, tol / 4, *guesses)  # few come out wider
    grid = grid or question.grid(once, tol, math.nan)
    if grid.points > most_points:
        raise OutOfReachError
    sharp, (lower, upper), to_beat = is_rough, question.widest, math.nan
    for turn in range(4):
        fewest, most_often, weights = question.times[0], question.times[-1], kernel(grid)
        cut = partial(spectrum, once, grid, fewest=fewest, most=most_often, weights=weights)
        above = cut(upper_atoms, sharp=sharp)
        most, by_rounding = question.read(above, ABOVE, upper)
        if not sharp and by_rounding > _MOST_ROUNDING * tol:
            sharp, above = True, cut(upper_atoms, sharp=True)
            most, _ = question.read(above, ABOVE, upper)
        is_missed = turn == 0 and question.is_missed(grid, most)
        if is_rough and turn < 2 and _outside_window(above) > _MOST_OUTSIDE:
            upper = np.minimum(upper, most)
            grid = question.grid(once, grid.tol, float(upper[0]))
            continue
        below = cut(lower_atoms, sharp=sharp)
        least, _ = question.read(below, BELOW, most)
        lower, upper = np.maximum(lower, least), np.minimum(upper, most)
        excess = float(question.widths(lower, upper).max()) / tol
        is_stuck = excess >= 0.8 * to_beat  # some losses lie on no lattice
        shift = above.shift + below.shift  # no grid mends what losses themselves are off by
        enough = max(1.0, _LIKE_SHIFT * question.moved(shift, upper, grid.c) / tol)
        most_worth = question.points(upper, most_points)
        if excess <= enough or is_stuck or is_rough or grid.points >= 0.9 * most_worth:
            break
        if is_missed:  # wide because of its tilt: it says nothing about the points that are needed
            finer = grid.tol
        else:  # the number of points grows with the root of 1 / tol
            finer = grid.tol / 2 * enough / excess
            finer, to_beat = max(finer, grid.tol * (grid.points / most_worth) ** 2), excess
        finer_grid = _planned(once, question, finer, float(upper[0]), math.nan)
        if finer_grid is None:
            break
        grid = finer_grid
    return _Laws(above, below), (lower, upper)


def _planned(once: Composition, question: _Question, tol: float, *known: float) -> Grid | None:
    """The grid for the first of these guesses (NaN: none) for which there is one."""
    for guess in known:
        with suppress(OutOfReachError):
            return question.grid(once, tol, guess)
    return None


def _outside_window(law: Spectrum) -> float:
    middle, half = law.grid.middle, law.grid.points * law.grid.step / 2
    return float(outside(law, np.ones(1), np.array([middle - half]), np.array([middle + half]))[0])
