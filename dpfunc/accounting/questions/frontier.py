"""Where a run just meets a target: searches along one number of it, others fixed.

Goes in: an event for every x, a target, what was released before. Comes out: an x that meets the
target, next to one that does not. Estimates say where to look; what is returned has been proven.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import scipy

from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.contour.estimates import about_epsilon
from dpfunc.accounting.events.algebra import Event, require_event
from dpfunc.accounting.events.mechanisms import Gaussian
from dpfunc.accounting.pairs.gaussian import gaussian_mu
from dpfunc.accounting.questions.answers import epsilon as epsilon_of
from dpfunc.accounting.questions.targets import Target
from dpfunc.checks import require

TOLERANCE = 1e-6  # relative: how close to the best value an answer comes
_FINE = 1e-4  # an estimate is no better than that
_MUCH = 1e9  # beyond this factor from the target an estimate says which way, and no more
_FAR_ENOUGH = 0.02  # between places for the slope of an estimate
_NEAR = 0.3  # an excess from which on secants are taken
_FIRST_STEP, _MOST_TRIED = 0.25, 200
_CLOSE = 0.7  # of the tolerance
_STEEP = 1e-2  # in logarithms; where the excess is flatter there is no telling where it ends


@dataclass(frozen=True)
class Frontier:
    """Where ``after + event(x)`` just meets the target; x is a logarithm."""

    event: Callable[[float], Event]
    target: Target
    after: Event
    relation: Relation
    tolerance: float = TOLERANCE

    def require_room(self, subject: str) -> None:
        """Refuse a target that what was released before does not meet by itself."""
        require_event(subject, self.after)
        require(
            self.target.excess(self.after, self.relation) <= 0,
            subject,
            f"a target that {self.after!r} meets",
            self.target,
            "raise the target: what was released cannot be taken back",
        )

    def excess(self, x: float) -> float:
        """How far what is proven is beyond the target: at most 0 meets it."""
        return self.target.excess(self.after + self.event(x), self.relation)

    def guess(self, direction: float, limits: tuple[float, float]) -> "Guess":
        """About the place, from an estimate that proves nothing; the nearer limit if it is outside.

        ``direction`` is 1 where epsilon grows with x.
        """
        epsilon, delta = self.target.like()
        before = self._like_before(delta)

        @cache
        def beyond(x: float) -> float:
            spent = self._roughly(before + self.event(x), math.log(delta))
            return math.log(min(_MUCH, max(1 / _MUCH, spent / epsilon if epsilon else _MUCH)))

        low, high = limits[0] + _FINE, limits[1] - _FINE  # a search has to begin between them
        for limit, sign in ((low, direction), (high, -direction)):
            if beyond(limit) * sign >= 0:
                return Guess(limit, direction)
        x = float(scipy.optimize.brentq(beyond, low, high, xtol=_FINE))
        ends = max(x - _FAR_ENOUGH, low), min(x + _FAR_ENOUGH, high)
        slope = (beyond(ends[1]) - beyond(ends[0])) / (ends[1] - ends[0])
        is_slope = _STEEP <= direction * slope <= 1 / _STEEP
        return Guess(x, slope if is_slope else direction)

    def _roughly(self, event: Event, log_delta: float) -> float:
        """About its epsilon, in the first order for which there is an estimate: that of removing a
        record, which is seldom the better.
        """
        nothing = 0.0
        for composition in filter(None, pairs(event, self.relation)):
            rough = about_epsilon(composition, log_delta)
            if 0 < rough < math.inf:
                return rough
            nothing = max(nothing, rough)
        return nothing

    def _like_before(self, delta: float) -> Event:
        """A Gaussian release that costs as much as all before: quick to add to a guess."""
        spent = epsilon_of(self.after, delta=delta, relation=self.relation, tol=1e-2)
        if not 0 < spent < math.inf:
            return Gaussian(math.inf)
        moved = 2.0 if self.relation == "replace_one" else 1.0
        return Gaussian(moved / gaussian_mu(spent, math.log(delta)))

    def boundary(self, guess: "Guess", safe: float, limits: tuple[float, float]) -> float | None:
        """An x that meets the target such that ``x - safe * tolerance`` does not.

        ``safe`` is the direction in which the target is met. The limit on the other side where
        every x within meets it, None where none does.
        """
        low, high = sorted(safe * limit for limit in limits)
        search = _Search(math.log1p(self.tolerance), low, high, safe * guess.slope)
        at = _within(safe * guess.x, (low, high))
        for _ in range(_MOST_TRIED):
            search.add(at, self.excess(safe * at))
            if (found := search.found()) is not None:
                return None if found == math.inf else safe * found
            at = search.following()
        return None if search.good is None else safe * search.good


class Guess(NamedTuple):
    """Where a target is about met, and how fast the logarithm of epsilon changes there."""

    x: float
    slope: float


@dataclass
class _Search:
    """For the least place between two limits at which an excess that falls is at most 0."""

    tolerance: float
    low: float
    high: float
    slope: float
    good: float | None = None  # the least place known to meet the target
    bad: float | None = None  # the largest known not to
    step: float = _FIRST_STEP
    known: list[tuple[float, float]] = field(default_factory=list)  # places and excesses
    gaps: list[float] = field(default_factory=list)  # between good and bad, so far

    def add(self, at: float, excess: float) -> None:
        """Note what was found."""
        self.known.append((at, excess))
        if excess <= 0:
            self.good = at
        else:
            self.bad = at
        if self.good is not None and self.bad is not None:
            self.gaps.append(self.good - self.bad)

    def found(self) -> float | None:
        """The place, infinity if there is none, or None while it is not known."""
        if self.good is None:
            return math.inf if self.bad == self.high else None
        is_near = bool(self.gaps) and self.gaps[-1] <= self.tolerance * (1 + 1e-6)
        return self.good if is_near or self.good == self.low else None

    def following(self) -> float:
        """Where to look next: so that one more place decides if it is where it should be."""
        at, excess = min(self.known, key=lambda one: abs(one[1]))
        root = at - excess / self._slope(at, excess)
        tol = self.tolerance
        if self.good is not None and 0 <= self.good - root <= _CLOSE * tol:
            there = self.good - tol
        elif self.bad is not None and 0 <= root - self.bad <= _CLOSE * tol:
            there = self.bad + tol
        else:
            there = root + tol * (1 - _CLOSE)
        if self.good is None or self.bad is None:
            reach = self.step
            self.step *= 4
            there = _within(there, (at - reach, at + reach))
            beyond_bad = self.bad is None or there > self.bad
            before_good = self.good is None or there < self.good
            if not (beyond_bad and before_good):
                there = at + math.copysign(reach, excess)
            return _within(there, (self.low, self.high))
        is_slow = len(self.gaps) > 3 and self.gaps[-1] > self.gaps[-4] / 2
        if is_slow or not self.bad < there < self.good:
            return (self.bad + self.good) / 2
        return there

    def _slope(self, at: float, excess: float) -> float:
        """Between the two nearest places, unless they say nothing about it."""
        others = sorted((abs(e), x, e) for x, e in self.known if x != at and abs(e) < _NEAR)
        if others and abs(excess) < _NEAR:
            _, x, e = others[0]
            slope = (e - excess) / (x - at)
            if _STEEP <= -slope <= 1 / _STEEP:
                return slope
        return self.slope


def last_within(meets: Callable[[int], bool], guess: int) -> int:
    """The largest count that meets a target which only counts up to some one meet; 0 is one."""
    gap = max(1, guess // 1000)
    within, beyond = guess, guess
    while within > 0 and not meets(within):
        within, beyond, gap = max(0, within - gap), within, 4 * gap
    while beyond == within or meets(beyond):
        within, beyond, gap = beyond, beyond + gap, 4 * gap
    while beyond - within > 1:
        middle = (within + beyond) // 2
        within, beyond = (middle, beyond) if meets(middle) else (within, middle)
    return within


def _within(x: float, limits: tuple[float, float]) -> float:
    return min(max(x, limits[0]), limits[1])
