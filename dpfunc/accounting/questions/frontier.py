"""Where a run just meets a target: searches along one number of it, others fixed.

Goes in: an event for every x, a target, what was released before. Comes out: an x that meets the
target, next to one that does not. Estimates say where to look; what is returned has been proven.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import scipy

from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.contour.integral import rough_epsilon
from dpfunc.accounting.events.algebra import Event, require_event
from dpfunc.accounting.events.mechanisms import Gaussian
from dpfunc.accounting.pairs.gaussian import gaussian_mu
from dpfunc.accounting.questions.answers import epsilon as epsilon_of
from dpfunc.accounting.questions.targets import Target
from dpfunc.checks import require

TOLERANCE = 1e-6  # relative: how close to the best value an answer comes
_FINE = 1e-4  # an estimate is no better than that
_MUCH = 1e9  # beyond this factor from the target an estimate says which way, and no more
_NEAR, _MOST_SECANTS = 0.1, 5
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

    def guess(self, direction: float, limits: tuple[float, float]) -> float:
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
                return limit
        return float(scipy.optimize.brentq(beyond, low, high, xtol=_FINE))

    def _roughly(self, event: Event, log_delta: float) -> float:
        """About its epsilon. At small rates the order of adding a record is often out of reach, and
        seldom the worse.
        """
        compositions = [c for c in pairs(event, self.relation) if c]
        orders = [rough_epsilon(c, log_delta) for c in compositions]
        within_reach = [rough for rough in orders if rough < math.inf]
        return max(within_reach, default=math.inf if compositions else 0.0)

    def _like_before(self, delta: float) -> Event:
        """A Gaussian release that costs as much as all before: quick to add to a guess."""
        spent = epsilon_of(self.after, delta=delta, relation=self.relation, tol=1e-2)
        if not 0 < spent < math.inf:
            return Gaussian(math.inf)
        moved = 2.0 if self.relation == "replace_one" else 1.0
        return Gaussian(moved / gaussian_mu(spent, math.log(delta)))

    def boundary(self, guess: float, safe: float, limits: tuple[float, float]) -> float | None:
        """An x that meets the target such that ``x - safe * tolerance`` does not.

        ``safe`` is the direction in which the target is met. The limit on the other side where
        every x within meets it, None where none does.
        """
        excess = cache(self.excess)
        good, bad = guess + safe * self.tolerance / 2, guess - safe * self.tolerance / 2
        if self.tolerance >= _FINE and excess(good) <= 0 < excess(bad):
            return good
        x = self._by_secants(excess, guess, safe, limits)
        if x is None:
            good = bad = guess
            step = min(4.0, max(5e-4, abs(excess(guess))))  # epsilon is about in proportion
            while excess(good) > 0:
                if good in limits:
                    return None
                bad, good, step = good, _within(good + safe * step, limits), 4 * step
            while excess(bad) <= 0:
                if bad in limits:
                    return bad
                good, bad, step = bad, _within(bad - safe * step, limits), 4 * step
            x = float(scipy.optimize.brentq(excess, good, bad, xtol=self.tolerance / 8))
        # An answer may lie on a limit: beyond it the event stays as it is, and so would a search.
        end = limits[safe > 0]
        good, bad = (_within(x + way * self.tolerance / 4, limits) for way in (safe, -safe))
        while excess(good) > 0:
            if good == end:
                return None
            bad, good = good, _within(good + safe * self.tolerance / 2, limits)
        while excess(bad) <= 0:
            if bad in limits:
                return bad
            good, bad = bad, _within(bad - safe * self.tolerance / 2, limits)
        return good

    def _by_secants(
        self,
        excess: Callable[[float], float],
        guess: float,
        safe: float,
        limits: tuple[float, float],
    ) -> float | None:
        """Where the excess is about 0, found from a near guess; None where that leads nowhere."""
        before, at_before, slope = guess, excess(guess), -safe  # epsilon is about in proportion
        for _ in range(_MOST_SECANTS):
            here = before - at_before / slope
            if not limits[0] < here < limits[1] or abs(here - guess) > _NEAR or here == before:
                return None
            at_here = excess(here)
            slope = (at_here - at_before) / (here - before)
            if not _STEEP <= -safe * slope <= 1 / _STEEP:
                return None
            before, at_before = here, at_here
            if abs(at_before / slope) < self.tolerance / 8:
                return before - at_before / slope
        return None


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
