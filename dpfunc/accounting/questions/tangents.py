"""The trade-off curve of an event from below, by its tangents: deltas that are kept between alphas.

For one order (P, Q) every epsilon e gives the line ``1 - delta(e) - exp(e) alpha`` below the curve,
negative epsilons by the other order: ``delta(-e) = 1 - exp(-e) + exp(-e) delta'(e)``. In ``x =
exp(e)`` delta is convex, so that what the lines prove at one alpha is concave in x: it has one
maximum, and lies below the chords of its neighbours, extended. So a search knows how much there is
still to gain. The largest loss is a candidate too: beyond it delta does not fall any more, so that
the maximum is often there, in a corner that no search in the middle finds.
"""

import math

from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.pairs.largest_loss import sum_of_largest
from dpfunc.accounting.questions.answers import delta as delta_of
from dpfunc.accounting.questions.answers import epsilon as epsilon_of
from dpfunc.accounting.questions.facts import has_moments_alone

SWAPPED: dict[Relation, Relation] = {"add": "remove", "remove": "add"}

_TOL = 1e-4  # of each delta asked for on the way
_MOST_EPSILON = 650.0  # exponentials overflow beyond
_MOST_DELTAS = 40  # for one alpha
_GAIN = 3e-7  # of the rate, or of 1 less it: less is not looked for
_CLOSE = 1e-5  # of the whole range: how close epsilons are asked about
_START = (0.0, 0.1, 0.35, 0.65)  # of the largest epsilons, where the search begins


class TradeoffCurve:
    """``curve(alpha)``, a lower bound; it keeps the deltas it was told on the way."""

    def __init__(self, event: Event, relation: Relation) -> None:
        self.event, self.relation = event, relation
        self.swapped = SWAPPED.get(relation, relation)
        self.known: dict[float, float] = {}  # 1 - delta, or exp(e) (1 - delta') below 0
        self.ends = tuple(self._end(one) for one in (self.swapped, relation))

    def __call__(self, alpha: float) -> float:
        """The largest of the lines at alpha, nearly."""
        if alpha == 1:
            return 0.0
        low, high = -self._far(self.swapped, 1 - alpha), self._far(self.relation, alpha)
        for share in _START:
            self._height(share * low, alpha)
            self._height(share * high, alpha)
        for e in (low, high, -self.ends[0], self.ends[1]):
            if abs(e) <= _MOST_EPSILON:
                self._height(e, alpha)
        for _ in range(_MOST_DELTAS):
            wanted = self._best_guess(alpha)
            if wanted is None:
                break
            self._height(wanted, alpha)
        return max(0.0, *(self._height(e, alpha) for e in tuple(self.known)))

    def _height(self, e: float, alpha: float) -> float:
        """Of the line of epsilon e at alpha, less rounding."""
        if e not in self.known:
            order = self.relation if e >= 0 else self.swapped
            kept = 1 - delta_of(self.event, epsilon=abs(e), relation=order, tol=_TOL)
            self.known[e] = kept if e >= 0 else math.exp(e) * kept
        slope = math.exp(e) * alpha
        return self.known[e] - slope - 4e-16 * (1 + slope)

    def _best_guess(self, alpha: float) -> float | None:
        """An epsilon beside the best where chords leave most room; None where that is little."""
        points = sorted(self.known)
        x = [math.exp(e) for e in points]
        y = [self._height(e, alpha) for e in points]
        best = max(range(len(y)), key=y.__getitem__)
        found, most = None, _GAIN * max(min(1 - y[best], y[best]), 1e-15)
        for left in (best - 1, best):
            if 0 <= left < len(x) - 1:
                peak, place = _peak(x, y, left)
                low, high = points[left : left + 2]
                if peak - y[best] > most and high - low > _CLOSE * (points[-1] - points[0]):
                    inner = min(
                        max(math.log(place), 0.9 * low + 0.1 * high), 0.1 * low + 0.9 * high
                    )
                    found, most = inner, peak - y[best]
        return found

    def _far(self, relation: Relation, alpha: float) -> float:
        """An epsilon beyond which delta, or the line itself, is nothing next to alpha."""
        delta = 1e-6 * max(alpha, 1e-200)
        far = epsilon_of(self.event, delta=delta, relation=relation, tol=0.1)
        return min(_MOST_EPSILON, far, -math.log(max(alpha, 1e-280)) + 40)

    def _end(self, relation: Relation) -> float:
        """The largest finite loss of any order."""
        if has_moments_alone(self.event):
            return math.inf
        return max(map(sum_of_largest, pairs(self.event, relation)), default=0.0)


def _peak(x: list[float], y: list[float], left: int) -> tuple[float, float]:
    """The most that a concave function through the points can be in a cell, and about where.

    It is below both chords beside the cell, extended into it.
    """
    a, b, at_a, at_b = x[left], x[left + 1], y[left], y[left + 1]
    up = (at_a - y[left - 1]) / (a - x[left - 1]) if left > 0 else math.inf
    down = (y[left + 2] - at_b) / (x[left + 2] - b) if left + 2 < len(x) else -math.inf
    if math.isinf(up) and math.isinf(down):
        return math.inf, (a + b) / 2
    if math.isinf(up) or math.isinf(down):
        slope, at, height = (down, b, at_b) if math.isinf(up) else (up, a, at_a)
        return max(height + slope * (place - at) for place in (a, b)), (a + b) / 2
    if up <= down:
        return max(at_a, at_b), (a + b) / 2
    place = min(max((at_b - at_a + up * a - down * b) / (up - down), a), b)
    return at_a + up * (place - a), place
