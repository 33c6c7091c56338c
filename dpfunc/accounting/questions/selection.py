"""The best of K private runs: both ends of its epsilon and delta, from those of one run.

A(y), the released outcome, has density ``A_P(y) = P(y) f'(P[<= y])``, f the generating function of
K and ``<=`` the ranking. With ``a = gamma / (1 - gamma)``, ``m`` the mean of K and any ``e`` at
which ``delta_QP(e) <= a (exp(e) - 1)``:

    delta_A(epsilon) <= m delta_PQ(epsilon - c),    c = (1 + shape) e

(docs/accounting.md has the proof.) The order of the data sets at e is the other one. A Poisson K
has ``c = m delta(0)``, and theorem 6 of Papernot and Steinke 2022 (arXiv:2110.03620) beside it.

From below: rank first the outcomes B that speak most against the record, next those S that speak
most for it. Then ``A_P(S) = f(1 - P(B)) - f(1 - P(B) - P(S))``, and so under Q: a set whose two
probabilities no smaller epsilon allows. Those of B and S come from slopes of delta, as intervals.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import scipy

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.bounds import Bounds
from dpfunc.accounting.engines.renyi.divergence import best, epsilon_at_order, rdp
from dpfunc.accounting.events.selection import PrivateSelection, log_mean

_UP = 1 + 1e-11
_SHARES = (0.5, 0.7, 0.83, 0.93, 1.0)  # of an epsilon: where S is looked for
_TIMES = (0.6, 1.0, 1.4)  # of the shift: where B is
_LARGE = 0.01  # a delta from which on chords are looked at
_CHORDS = (0.7, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01)  # the deltas that they begin at
_SLOPE = 1e-4  # of an epsilon: how far apart the deltas are whose slope is a probability
_OTHER: dict[Relation, Relation] = {"add": "remove", "remove": "add"}
_WAYS: dict[Relation, tuple[Relation, ...]] = {"add_or_remove": ("remove", "add")}


class Weights(NamedTuple):
    """Intervals that hold the probability of a set of outcomes, under one law and another."""

    first: tuple[float, float]
    second: tuple[float, float]


class Asked(NamedTuple):
    """The two questions about one run."""

    delta: Callable[[float, Relation], Bounds]
    epsilon: Callable[[float, Relation], Bounds]


def selected_epsilon(
    selection: PrivateSelection, delta: float, relation: Relation, one_run: Asked, *, both: bool
) -> Bounds:
    """Of the best of K runs; the lower end is 0 unless ``both`` are wanted."""
    if delta >= 1:
        return Bounds(0.0, 0.0, "closed form")
    question = _Question(selection, relation, one_run)
    inner = question.of_one_run(delta)
    upper = min(question.epsilon_above(delta), _by_moments(question, delta))
    if delta > _LARGE:
        chords = (
            at + math.log((1 - delta) / (1 - low)) for at, low in question.chords() if low < delta
        )
        upper = max(0.0, min((upper, *chords)) * _UP)
    if not both:
        return Bounds(0.0, upper, inner.engine)
    # Where no outcome is ranked above another, a run is released as it is, if there is any.
    least = one_run.epsilon(min(1.0, delta / question.chance), relation).lower
    reached = max((least, *(_reached_epsilon(way, delta, inner.upper) for way in question.ways)))
    return Bounds(min(reached, upper), upper, inner.engine)


def selected_delta(
    selection: PrivateSelection, epsilon: float, relation: Relation, one_run: Asked, *, both: bool
) -> Bounds:
    """Of the best of K runs; the lower end is 0 unless ``both`` are wanted."""
    question = _Question(selection, relation, one_run)
    found = question.delta_at(epsilon - question.shift)
    upper = min(1.0, question.mean * found.upper * _UP)
    if upper > _LARGE:
        chords = (
            1 - (1 - low) * math.exp(epsilon - at) / _UP
            for at, low in question.chords()
            if epsilon <= at
        )
        upper = min((upper, *chords))
    if not both:
        return Bounds(0.0, upper, found.engine)
    least = question.chance * one_run.delta(epsilon, relation).lower
    near = max(epsilon - question.shift, 1e-3)
    reached = max((least, *(_reached_delta(way, epsilon, near) for way in question.ways)))
    return Bounds(min(reached, upper), upper, found.engine)


@dataclass(frozen=True)
class _Question:
    """A selection under a relation, and what one run answers."""

    selection: PrivateSelection
    relation: Relation
    one_run: Asked

    @property
    def is_poisson(self) -> bool:
        return self.selection.shape == math.inf

    @cached_property
    def mean(self) -> float:
        return max(self.selection.mean_runs, math.exp(log_mean(self.selection)))

    @property
    def chance(self) -> float:
        """That there is a run at all, rounded down."""
        return -math.expm1(-self.selection.mean_runs) / _UP if self.is_poisson else 1.0

    @property
    def odds(self) -> float:
        """``gamma / (1 - gamma)``: infinity where K is always 1."""
        gamma = self.selection.gamma
        return gamma / (1 - gamma) if gamma < 1 else math.inf

    @cached_property
    def shift(self) -> float:
        """The c of the theorem: e is proven, not only found."""
        other = _OTHER.get(self.relation, self.relation)
        if self.is_poisson:
            return self.mean * self.one_run.delta(0.0, other).upper * _UP
        if self.odds == math.inf or self.one_run.delta(0.0, other).upper == 0:
            return 0.0
        return (1 + self.selection.shape) * self._tangent(other) * _UP

    def _tangent(self, other: Relation) -> float:
        """Little above the root of ``delta(e) = a (exp(e) - 1)``, where it is at most that."""

        def excess(e: float) -> float:
            delta, line = self.one_run.delta(e, other).upper, self.odds * math.expm1(e)
            return math.log(max(delta, 1e-300)) - math.log(line)

        high = math.log1p(1 / self.odds) * _UP  # no delta is above 1
        low = high
        while excess(low) < 0:
            high, low = low, low / 4
        e = (
            float(scipy.optimize.brentq(excess, low, high, xtol=1e-8 * low, rtol=1e-8))
            if low < high
            else high
        )
        step = 1e-9 * e
        while excess(e) > 0 and e < high:
            e, step = min(high, e + step), 2 * step
        return e

    def delta_at(self, epsilon: float) -> Bounds:
        """Of one run; ``delta(-e) = 1 - exp(-e) + exp(-e) delta'(e)``, in the other order."""
        if epsilon >= 0:
            return self.one_run.delta(epsilon, self.relation)
        other = self.one_run.delta(-epsilon, _OTHER.get(self.relation, self.relation))
        lower, upper = (1 - math.exp(epsilon) * (1 - end) for end in other)
        return Bounds(lower, upper, other.engine)

    def of_one_run(self, delta: float) -> Bounds:
        """What one run needs where the best of K has this delta."""
        return self.one_run.epsilon(min(1.0, delta / (self.mean * _UP)), self.relation)

    def epsilon_above(self, delta: float) -> float:
        """By the theorem alone."""
        one = self.of_one_run(delta).upper
        if one == math.inf:
            return math.inf
        if one > 0:
            return (one + self.shift) * _UP
        return max(0.0, self.shift - _least_negative(self, delta, self.shift)) * _UP

    def chords(self) -> list[tuple[float, float]]:
        """Points (epsilon, delta) that hold, to be joined with delta 1 at ``exp(epsilon) = 0``.

        The true delta is convex in ``exp(epsilon)`` and begins there, so that it is below the
        chord: at ``epsilon`` below that of the point, ``1 - (1 - delta) exp(epsilon - at)``.
        """
        return [(self.epsilon_above(delta), delta) for delta in _CHORDS]

    @cached_property
    def ways(self) -> tuple["_Way", ...]:
        """The orders of the data sets, for the lower end."""
        ways = _WAYS.get(self.relation, (self.relation,))
        return tuple(_Way(self, way, _OTHER.get(way, way)) for way in ways)


def _least_negative(question: _Question, delta: float, shift: float) -> float:
    """How far below 0 the epsilon of one run may be, at most ``shift``, where delta is large."""
    low, high = 0.0, shift
    for _ in range(60):
        middle = (low + high) / 2
        is_enough = question.mean * question.delta_at(-middle).upper * _UP <= delta
        low, high = (middle, high) if is_enough else (low, middle)
    return low


def _by_moments(question: _Question, delta: float) -> float:
    """For a Poisson number of runs, theorem 6 of Papernot and Steinke: better for large means."""
    if not question.is_poisson or delta == 0:
        return math.inf
    event, mean, relation = question.selection.event, question.mean, question.relation
    other = _OTHER.get(relation, relation)  # the ranking loses in the other order

    def epsilon(order: float) -> float:
        lost = question.one_run.delta(-math.log1p(-1 / order), other).upper
        divergence = rdp(event, order=order, relation=relation)
        total = divergence + mean * lost + max(0.0, math.log(mean)) / (order - 1)
        return epsilon_at_order(total, order, delta)

    try:
        return max(0.0, best(epsilon)) * _UP
    except ValueError:  # no moments are known
        return math.inf


@dataclass(frozen=True)
class _Way:
    """One order (P, Q) of the data sets: what sets of outcomes are known to weigh."""

    question: _Question
    order: Relation
    other: Relation

    def weights(self, epsilon: float, order: Relation) -> Weights:
        """Of the outcomes with a loss above ``epsilon``.

        Under the second it is minus the slope of delta in ``exp(epsilon)``, which falls: it is
        between the slopes of the chords on either side.
        """
        step = min(_SLOPE * max(epsilon, 1e-2), epsilon)
        places = (epsilon - step, epsilon, epsilon + step)
        below, here, above = (self.question.one_run.delta(e, order) for e in places)
        x = math.exp(epsilon)
        up, down = (x * abs(math.expm1(e - epsilon)) for e in (places[2], places[0]))
        least = max(0.0, (here.lower - above.upper) / (up * _UP))
        most = min(1.0, max(0.0, (below.upper - here.lower) / down * _UP))
        first = here.lower + x * least, min(1.0, here.upper + x * most)
        return Weights(first, (least, most))

    def released(self, before: float, weight: float) -> float:
        """The probability of S of that ``weight`` next to B of weight ``before``, if released."""
        shape, mean = self.question.selection.shape, self.question.selection.mean_runs
        if self.question.is_poisson:
            return math.exp(-mean * before) * -math.expm1(-mean * weight)
        odds = self.question.odds
        if odds == math.inf:
            return weight
        ratio = math.log1p(weight / (odds + before))
        share = ratio if shape == 0 else -math.expm1(-shape * ratio) / shape
        return float(mean * odds * (1 + before / odds) ** -shape * share)

    def pairs(self, near: float) -> list[tuple[float, float]]:
        """``A_P(S)`` from below and ``A_Q(S)`` from above, of several S and B."""
        against = [Weights((0.0, 0.0), (0.0, 0.0))]
        shift = self.question.shift
        scale = shift if self.question.is_poisson else shift / (1 + self.question.selection.shape)
        if 0 < scale < math.inf:
            against += [self.weights(times * scale, self.other) for times in _TIMES]
        # The loss of (Q, P) is large on B, so that its first weight is that under Q.
        speaking = [self.weights(share * near, self.order) for share in _SHARES]
        return [
            (self.released(b_p[1], s_p[0]) / _UP, self.released(b_q[0], s_q[1]) * _UP)
            for (b_q, b_p), (s_p, s_q) in product(against, speaking)
        ]


def _reached_epsilon(way: _Way, delta: float, near: float) -> float:
    if not 0 < near < math.inf:
        return 0.0
    found = way.pairs(near)
    return max(
        (math.log((p - delta) / q) / _UP for p, q in found if p > delta and q > 0), default=0.0
    )


def _reached_delta(way: _Way, epsilon: float, near: float) -> float:
    return max(p - math.exp(epsilon) * q for p, q in way.pairs(near)) / _UP
