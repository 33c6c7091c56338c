"""A likelihood ratio of some steps as a list of places, and the moves that keep it in order.

Both moves keep mass and mean. Moving a cell to its two ends makes a ratio larger in the convex
order, moving it to its mean smaller (`spread`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.finite_loss import gather
from dpfunc.accounting.pairs.privacy_loss import Array

_AT_ONCE = 2**15  # values: with all that is worked out for them they stay in the cache
_LEADING = 15  # bits that places differ in: few of them share a bucket then


class Ratio(NamedTuple):
    """The mean of some terms: its places, increasing, and how much is on each under Q."""

    x: Array
    mass: Array
    beyond: float  # how much of P is at infinity, where there is nothing of Q
    terms: int


def cut(values: Array, mass: Array, places: Array, is_above: bool) -> tuple[Array, Array]:
    """A list of ``values`` cut at ``places``: where its cells are, and their masses.

    From above no value may be beyond the last place. Every value is moved to both ends of its cell
    by itself: sums of positive terms, of which none cancels where next to all is at one end.
    """
    cells_of, count = cells_at(places), len(places) + 1
    x = np.append(0.0, places)
    one, other = np.zeros((2, count))
    for start in range(0, len(values), _AT_ONCE):
        some, held = values[start : start + _AT_ONCE], mass[start : start + _AT_ONCE]
        cell = cells_of(some)
        if is_above:
            cell, some = np.minimum(cell, len(places) - 1), np.minimum(some, places[-1])
            share = held / np.diff(x)[cell]
            one += gather(cell, share * (x[cell + 1] - some), count)
            other += gather(cell + 1, share * (some - x[cell]), count)
        else:
            one += gather(cell, held, count)
            other += gather(cell, held * some, count)
    return (x, one + other) if is_above else (centres(one, other, places), one)


def cells_at(places: Array) -> Callable[[Array], NDArray[np.intp]]:
    """How many of the increasing places are at or below each value; neither is below 0, nor -0.

    Floats that are not negative order as their bits do. So the leading bits say how many places
    are below all values that share them, and whether there is one place among these, or several.
    """
    bits = places.view(np.int64)
    drop = max(0, int(bits[-1] - bits[0]).bit_length() - _LEADING)
    first = bits[0] >> drop
    own = (bits >> drop) - first
    buckets = np.arange(own[-1] + 2)
    below, several = np.searchsorted(own, buckets), np.bincount(own, minlength=len(buckets)) > 1
    with_end = np.append(places, np.nan)  # no value is beyond that

    def find(values: Array) -> NDArray[np.intp]:
        bucket = values.view(np.int64) >> drop
        bucket -= first
        np.clip(bucket, 0, len(buckets) - 1, out=bucket)
        cell = below[bucket]
        cell += with_end[cell] <= values
        rest = np.flatnonzero(several[bucket])
        cell[rest] = np.searchsorted(places, values[rest], side="right")
        return np.asarray(cell)

    return find


def split(plain: Array, sized: Array, places: Array) -> tuple[Array, Array]:
    """Cells between 0 and ``places``, on their two ends."""
    x = np.concatenate([[0.0], places])
    share = np.where(plain > 0, sized - plain * x[:-1], 0.0) / np.diff(x)
    up = np.clip(share, 0.0, plain)
    masses = np.zeros(len(x))
    masses[1:] += up
    masses[:-1] += plain - up
    return x, masses


def centres(plain: Array, sized: Array, places: Array) -> Array:
    """The means of cells, within them; any place where there is nothing."""
    low, high = np.append(0.0, places), np.append(places, np.inf)
    inside = np.where(np.isfinite(high), high, low)
    centre = np.divide(sized, plain, out=inside.copy(), where=plain > 0)
    return np.asarray(np.clip(centre, low, high))
