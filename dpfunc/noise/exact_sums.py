"""Sums that add exactly: whole numbers of a fine grid, in float64, in any order.

A step on several processes adds up what they contribute, in an order that nobody controls. Floats
round each addition, so that the sum depends on the order, and with it the release. Whole numbers
below ``2**53`` do not round: each part is rounded once, to a grid, where it is made.

This grid is not that of a release (`dpfunc.noise.lattice`), which is far coarser: rounding a sum to
it costs sensitivity, and so has to be fine.
"""

import math
from typing import NamedTuple

import torch

from dpfunc.checks import is_count, require
from dpfunc.types import Summed, Tensors

_ROUNDING = 2.0**-12  # of the bound: what all parts together may add to the sensitivity
_EXACT = 2.0**53  # float64 has every whole number up to this
_FLOATS = 1 + 2.0**-10  # a weighted gradient as floats compute it, over the bound


class OnGrid(NamedTuple):
    """A sum as whole numbers: ``grid * values``, with the bound of the sum before it was rounded.

    ``values``: ``{name: shape}``, float64 that are whole numbers.
    """

    values: Tensors
    grid: float
    bound: float


def exact_grid(bound: float, *, size: int, parts: int) -> float:
    """The grid for ``parts`` sums of ``size`` numbers that are rounded and then added.

    The largest power of two with ``parts * sqrt(size) * grid <= 2**-12 bound``; it depends on
    public numbers alone.

    Guarantee: let S and S' be the sums of two neighbouring data sets, each the sum of ``parts``
    parts, cut in any way whatever. A part's rounding moves each coordinate by at most ``grid / 2``
    on either side, so ``|R(S) - R(S')| <= |S - S'| + parts sqrt(size) grid
    <= |S - S'| + 2**-12 bound``: within what `dpfunc.noise.lattice.widened` leaves for floats.
    docs/distributed.md has the proof, and what happens without the factor ``parts``.

    ValueError for a bound that is not finite: no grid is fine enough for an unclipped sum.

    >>> exact_grid(1.0, size=2**20, parts=4) == 2.0**-24
    True
    """
    require(
        0 < bound < math.inf,
        "exact_grid",
        "a finite bound > 0",
        bound,
        "clip with a finite max_norm",
    )
    for name, count in (("size", size), ("parts", parts)):
        require(is_count(count) and count >= 1, "exact_grid", f"an int {name} >= 1", count, "count")
    _, exponent = math.frexp(_ROUNDING * bound / (parts * math.sqrt(size)))
    return math.ldexp(0.5, exponent)


def on_grid(summed: Summed, grid: float) -> OnGrid:
    """``summed`` rounded to multiples of ``grid``, a power of two: see `exact_grid`."""
    values = {
        name: value.to(torch.float64, copy=True).div_(grid).round_()
        for name, value in summed.values.items()
    }
    return OnGrid(values, grid, summed.bound)


def most_samples(grid: float, bound: float) -> int:
    """So many samples, each of at most ``bound``, surely add up exactly, in any order."""
    return int(_EXACT * grid / (_FLOATS * bound))


def as_sum(total: OnGrid) -> Summed:
    """The sum itself, in the memory of ``total``: float64, multiples of the grid, exactly."""
    values = {name: value.mul_(total.grid) for name, value in total.values.items()}
    return Summed(values, total.bound)


def add_(total: OnGrid, more: OnGrid) -> None:
    """Add ``more`` to ``total``, exactly. ValueError for sums on two grids."""
    require(
        total.grid == more.grid and total.values.keys() == more.values.keys(),
        "add_",
        "two sums of the same parameters on one grid",
        (total.grid, more.grid),
        "take one exact_grid for all parts of a step",
    )
    for name, value in total.values.items():
        value.add_(more.values[name])
