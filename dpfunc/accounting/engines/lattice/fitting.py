"""How the lattice is laid through the losses of a pair: a loss that is on it, and its step.

Where losses have atoms at their ends, or are listed one by one, they should lie on the lattice:
from below, what is off it is lowered. Any lattice is valid.
"""

import math
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.engines.lattice.listed import listed_losses
from dpfunc.accounting.pairs.privacy_loss import Array, Pair

_SHARP = 1e-9  # probability of an outermost cell that matters
_MOST_STEPS = 2**22  # between the outermost of listed losses
_MOST_TRIED = 60_000  # numbers of steps times losses
_SURE = 1e-11  # of a step: rounding


class Anchor(NamedTuple):
    """Which end of a pair's losses is sharp (-1, 1, or 0 if neither), and a loss on the lattice."""

    end: int
    offset: float


def anchor(pair: Pair, count: int, tail: float, step: float) -> Anchor:
    """A loss to put the lattice on, that of the merged cell at the heavier end of the losses.

    Of listed losses: none is below its place, and all of them are as little above as can be.
    """
    losses = listed_losses(pair, tail)
    if losses is not None:
        steps = np.rint((losses - losses[0]) / step)
        return Anchor(0, float((losses - steps * step).min()))
    wanted = pair.nodes(count, tail)
    low, high = float(wanted[0]), float(wanted[-1])
    below, above = _at_ends(pair, low, high, step)
    if max(below, above) < _SHARP:
        return Anchor(0, 0.0)  # near which most losses are where a record is hardly ever read
    end = -1 if below >= above else 1
    return Anchor(end, _merged(pair, end, low if end < 0 else high, step))


def _at_ends(pair: Pair, low: float, high: float, step: float) -> tuple[float, float]:
    """The probabilities of the outermost cells."""
    p, *_ = pair.cells(np.array([low + step, max(high - step, low + 1.5 * step)]))
    return float(p[0]), float(p[-1])


def _merged(pair: Pair, end: int, outermost: float, step: float) -> float:
    """The loss of the merged cell at a sharp end.

    Beyond a sharp end there is nothing to balance a cell with, so the cell itself has to be on the
    lattice: a fixed point, as its other edge is half a step away. The iteration comes from the side
    from which the inner neighbour can make up the difference that is left.
    """
    at = outermost - end * step / 2
    for _ in range(40):
        p, r, *_ = pair.cells(np.array([at - end * step / 2]))
        outer = 0 if end < 0 else -1
        if not (p[outer] > 0 and r[outer] > 0):
            break
        before, at = at, math.log(p[outer] / r[outer])
        if abs(at - before) <= 1e-7 * step:
            break
    return at


def fitted(pair: Pair, count: int, tail: float, step: float) -> float:
    """A step, hardly less, of which a whole number lies between the ends where both are sharp.

    The lattice is put on one of them; so it is on the other as well. It ends a little inside, again
    for the inner neighbour to make up the difference.
    """
    losses = listed_losses(pair, tail)
    if losses is not None:
        return _of_listed(losses, step)
    wanted = pair.nodes(count, tail)
    low, high = float(wanted[0]), float(wanted[-1])
    if not low + 8 * step < high or min(_at_ends(pair, low, high, step)) < _SHARP:
        return step
    count = math.ceil((_merged(pair, 1, high, step) - _merged(pair, -1, low, step)) / step)
    for _ in range(20):
        between = _merged(pair, 1, high, step) - _merged(pair, -1, low, step)
        before, step = step, between / count
        if abs(step - before) <= 1e-9 * step / count:
            break
    return step * (1 - 1e-6 / count)


def _of_listed(losses: Array, step: float) -> float:
    """A step, at most half as large, of which nearly whole numbers lie between all the losses.

    A lattice of n steps between the outermost of three losses misses the third by about ``1 / n``
    of a step at best, if n is chosen well (Dirichlet's approximation theorem).
    """
    span = float(losses[-1] - losses[0])
    fewest = math.ceil(span / step)
    if len(losses) < 2 or not 1 <= fewest <= _MOST_STEPS:
        return step
    counts = np.arange(fewest, min(2 * fewest, fewest + _MOST_TRIED // len(losses)) + 1)
    places = np.multiply.outer(counts, (losses - losses[0]) / span)  # [counts, losses]
    missed = np.abs(places - np.rint(places)).max(axis=1)
    good = missed <= 4 * max(float(missed.min()), _SURE)  # of good ones the coarsest
    return span / float(counts[int(np.argmax(good))])
