"""Epsilon after every number of steps, in one call."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.algebra import Event, Repeat
from dpfunc.accounting.pair import Array, OutOfReachError
from dpfunc.accounting.questions import epsilon_bounds
from dpfunc.accounting.release import Relation
from dpfunc.accounting.step_counts import Ends, ends_of_counts
from dpfunc.checks import is_real, require

_RATIO = 2.0  # of the most to the fewest steps of a group


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
    | a negative or fractional number of steps, delta negative or NaN | ValueError |

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
    require(
        is_real(delta) and delta >= 0,
        "epsilon_curve",
        "a delta >= 0",
        delta,
        "use about 1 / (10 * size)",
    )
    given = np.asarray(steps if len(steps) else [], dtype=None if len(steps) else np.int64)
    require(
        given.dtype.kind in "iu" and bool(np.all(given >= 0)),
        "epsilon_curve",
        "ints >= 0 as steps",
        given[:3].tolist(),
        "use range(1, 1001)",
    )
    counts, places = np.unique(given, return_inverse=True)
    groups = [_group(event, some, delta, relation, both) for some in _groups(counts)]
    lower, upper = np.concatenate([np.zeros((2, 0)), *groups], axis=1)
    return lower[places], upper[places]


def _group(event: Event, counts: list[int], delta: float, relation: Relation, both: bool) -> Ends:
    if len(counts) > 1:
        with suppress(OutOfReachError):
            return ends_of_counts(event, counts, delta, relation, both=both)
    found = [epsilon_bounds(Repeat(event, n), delta=delta, relation=relation) for n in counts]
    return np.array([each.lower for each in found]), np.array([each.upper for each in found])


def _groups(counts: NDArray[np.int64]) -> Iterator[list[int]]:
    """Increasing counts cut where the last is too far from the first."""
    start = 0
    while start < len(counts):
        first = int(counts[start])
        most = _RATIO * first if first > 1 else first  # none or one has a closed form
        stop = int(np.searchsorted(counts, most, side="right"))
        yield counts[start:stop].tolist()
        start = stop
