"""Epsilon after every number of steps, in one call."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import Event, Repeat
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError
from dpfunc.accounting.questions.answers import epsilon_bounds, require_delta
from dpfunc.accounting.questions.step_counts import Ends, Engine, ends_of_counts
from dpfunc.checks import plain, require

_RATIO = 2.0  # of the most to the fewest steps that one contour serves


def epsilon_curve(
    event: Event, *, steps: Sequence[int], delta: float, relation: Relation = "add_or_remove"
) -> Array:
    """The upper ends of epsilon after each number of ``steps`` of ``event`` (one step).

    Guarantee: that of `epsilon`, for each entry by itself. Relative width: 1e-7 where the contour
    serves, else what `epsilon_bounds` gives at its default ``tol``.

    | case | epsilon |
    |---|---|
    | no entries in ``steps`` | an empty array |
    | 0 steps | 0 |
    | a negative or fractional number of steps, delta no probability | ValueError |

    >>> from dpfunc.accounting import Gaussian, Poisson
    >>> step = Poisson(0.01, Gaussian(1.0))
    >>> epsilon_curve(step, steps=[1000, 2000], delta=1e-5).round(4).tolist()
    [1.8282, 2.5838]
    """
    return _curve(event, steps, delta, relation, both=False)[1]


def epsilon_curve_bounds(
    event: Event, *, steps: Sequence[int], delta: float, relation: Relation = "add_or_remove"
) -> Ends:
    """Lower and upper ends of epsilon after each number of ``steps``; see `epsilon_curve`.

    Guarantee: that of `epsilon_bounds`, for each entry by itself.

    >>> from dpfunc.accounting import Gaussian, Poisson
    >>> step = Poisson(0.01, Gaussian(1.0))
    >>> lower, upper = epsilon_curve_bounds(step, steps=[1000, 2000], delta=1e-5)
    >>> bool(np.all(lower <= upper)), bool(np.all(upper - lower < 1e-7))
    (True, True)
    """
    return _curve(event, steps, delta, relation, both=True)


def _curve(
    event: Event, steps: Sequence[int], delta: float, relation: Relation, both: bool
) -> Ends:
    delta = plain(delta)
    require_delta("epsilon_curve", delta)
    given = np.asarray(steps if len(steps) else [], dtype=None if len(steps) else np.int64)
    require(
        given.dtype.kind in "iu" and bool(np.all(given >= 0)),
        "epsilon_curve",
        "ints >= 0 as steps",
        given[:3].tolist(),
        "use range(1, 1001)",
    )
    counts, places = np.unique(given, return_inverse=True)
    lower, upper = np.zeros(len(counts)), np.zeros(len(counts))
    for start, stop, (least, most) in _groups(_Question(event, delta, relation, both), counts):
        lower[start:stop], upper[start:stop] = least, most
    return lower[places], upper[places]


class _Question(NamedTuple):
    event: Event
    delta: float
    relation: Relation
    both: bool

    def together(self, counts: NDArray[np.int64], engine: Engine) -> Ends:
        """All in one go; `OutOfReachError` where they cannot share their work."""
        event, delta, relation, both = self
        return ends_of_counts(event, counts.tolist(), delta, relation, both=both, engines=(engine,))

    def alone(self, counts: NDArray[np.int64]) -> Ends:
        found = [
            epsilon_bounds(Repeat(self.event, n), delta=self.delta, relation=self.relation)
            for n in counts.tolist()
        ]
        return np.array([each.lower for each in found]), np.array([each.upper for each in found])


def _groups(question: _Question, counts: NDArray[np.int64]) -> Iterator[tuple[int, int, Ends]]:
    """Increasing counts in groups, each with where it starts and stops, and its ends of epsilon.

    The contour from the most on, until it is out of reach; the lattice for all others at once.
    """
    first = int(np.searchsorted(counts, 1, side="right"))  # none or one has a closed form
    yield 0, first, question.alone(counts[:first])
    stop = len(counts)
    with suppress(OutOfReachError):
        while stop > first:
            start = first + int(np.searchsorted(counts[first:], counts[stop - 1] / _RATIO))
            yield start, stop, question.together(counts[start:stop], "contour")
            stop = start
    if stop > first:
        yield from _on_lattices(question, counts, first, stop)


def _on_lattices(
    question: _Question, counts: NDArray[np.int64], start: int, stop: int
) -> Iterator[tuple[int, int, Ends]]:
    """On one lattice, or half of them each on its own where that would be too large."""
    some = counts[start:stop]
    try:
        yield start, stop, question.together(some, "lattice")
    except OutOfReachError:
        middle = start + int(np.searchsorted(some, math.sqrt(some[0] * some[-1])))
        if some[-1] <= _RATIO * some[0] or not start < middle < stop:
            yield start, stop, question.alone(some)
        else:
            yield from _on_lattices(question, counts, start, middle)
            yield from _on_lattices(question, counts, middle, stop)
