"""One step of t at random, enclosed by lists of losses: for few steps, little noise, given pairs.

Under Q the likelihood ratio is A, the mean of t independent ratios X of one step, whose mean is 1:
log-normals for Gaussian noise. Each order of the pair is known by ``E[(A - K)_+]`` or
``E[(K - A)_+]`` at every K (`gaussian_allocation`): means of convex functions of A. So a ratio that
is larger in the convex order dominates the pair, in composition as well, and the pair dominates one
that is smaller (Zhu, Dong and Wang 2022, arXiv:2106.08567, theorem 10). Sums of independent
variables keep the convex order (Shaked and Shanthikumar 2007, Stochastic Orders, theorem 3.A.12).
So, for X and again for every sum of two,

- from above, what lies between two points is moved to them such that its mass and mean stay;
- from below, what lies between two points is moved to its mean.

Beyond the last point, from above, the mean is moved to infinity and the mass to 0, the limit of
such moves: the loss is infinite there. From below all of it is one cell. Outcomes that Q does not
have are there already: E[X] is as much below 1, and so is E[A].

Rounding: points, masses and what each sum adds to a cell are positive terms, so that masses are off
by some ulp of themselves, however little is at an end of a cell (one release alone has closed
forms, and cells too narrow for its density to fall by much in them). A value is off by some ulp of
itself. So what is right of the values that were computed is right of the true ones once all losses
move outward by `_ROUNDING`, far more, for the moves from there on are exact.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dpfunc.accounting.pairs.allocation.given_ratio import GivenRatio
from dpfunc.accounting.pairs.allocation.normal_ratio import NormalRatio
from dpfunc.accounting.pairs.allocation.ratio import Ratio, cut
from dpfunc.accounting.pairs.finite_loss import gather
from dpfunc.accounting.pairs.privacy_loss import Array, Cells

_ROUNDING = 1e-10


@dataclass(frozen=True)
class AllocationList:
    """``steps`` releases, one of which holds the record: from above, or from below.

    ``of_one``: the likelihood ratio of one of them.
    """

    of_one: NormalRatio | GivenRatio
    steps: int
    adds: bool
    is_above: bool

    def nodes(self, count: int, tail: float) -> Array:
        """Every loss where there are no more than ``count``, else about so many of them."""
        loss, p, r = self._points()
        finite = np.isfinite(loss)
        loss, p, r = loss[finite], p[finite], r[finite]
        top = int(np.argmax(np.cumsum(p[::-1])[::-1] - p <= tail))
        bottom = min(top, int(np.argmax(np.cumsum(r) > tail)))
        every = max(1, math.ceil((top - bottom + 1) / max(count, 2)))
        return np.unique(loss[np.arange(top, bottom - 1, -every)])

    def cells(self, nodes: Array) -> Cells:
        """Every loss in the cell whose upper node is the first that is not below it."""
        loss, p, r = self._points()
        cell = np.searchsorted(nodes, loss, side="left")
        p, r = gather(cell, p, len(nodes) + 1), gather(cell, r, len(nodes) + 1)
        shift = _ROUNDING * (1 + float(np.abs(loss[np.isfinite(loss)]).max()))
        return Cells(p, r, p * _ROUNDING, r * _ROUNDING, shift)

    def _points(self) -> tuple[Array, Array, Array]:
        """The losses, increasing, and their masses under P and Q."""
        ratio = _mean_of(self.of_one, self.steps, self.is_above)
        with np.errstate(divide="ignore"):
            loss = np.append(np.log(ratio.x), math.inf)
        plain = np.append(ratio.mass, 0.0)
        sized = np.append(ratio.mass * ratio.x, ratio.beyond)
        if self.adds:
            return -loss[::-1], plain[::-1], sized[::-1]
        return loss, sized, plain


@lru_cache(maxsize=8)
def _mean_of(of_one: NormalRatio | GivenRatio, steps: int, is_above: bool) -> Ratio:
    """The law of the ratio of all steps, by sums of two."""
    total, bits = of_one.once(is_above), bin(steps)[3:]
    for i, bit in enumerate(bits):
        is_last = i == len(bits) - 1
        total = _sum(of_one, total, total, is_above, is_last and bit == "0")
        if bit == "1":  # one term of many: what its list errs by weighs as little
            few = of_one.once(is_above, total.terms**-0.25)
            total = _sum(of_one, total, few, is_above, is_last)
    return total


def _sum(
    of_one: NormalRatio | GivenRatio, one: Ratio, other: Ratio, is_above: bool, is_last: bool
) -> Ratio:
    """The mean of the terms of both, cut at places.

    What is beyond the last place is so in each term, and no more is in their mean.
    """
    terms = one.terms + other.terms
    x = one.x * (one.terms / terms)
    if one is other:
        means, plain = _each_two_once(x, one.mass)
    else:
        means = np.add.outer(x, other.x * (other.terms / terms)).ravel()
        plain = np.multiply.outer(one.mass, other.mass).ravel()
    places = of_one.places(means, plain, is_last)
    return Ratio(*cut(means, plain, places, is_above), one.beyond, terms)


def _each_two_once(x: Array, mass: Array) -> tuple[Array, Array]:
    """Sums of two of the x, and their masses: row by row, which is quicker than by indices."""
    count, stop = len(x), 0
    sums, masses = np.empty((2, count * (count + 1) // 2))
    for i in range(count):
        start, stop = stop, stop + count - i
        np.add(x[i], x[i:], out=sums[start:stop])
        np.multiply(2 * mass[i], mass[i:], out=masses[start:stop])
        masses[start] /= 2
    return sums, masses
