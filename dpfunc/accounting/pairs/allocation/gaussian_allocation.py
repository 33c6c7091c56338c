"""The pair of a Gaussian release that reads each record in one of t steps, chosen at random.

All steps together are one release: with the record ``P = 1/t sum_i N(e_i, sigma**2 I)``, e_i the
i-th unit vector, without it ``Q = N(0, sigma**2 I)``, also where a step depends on earlier ones
(Feldman and Shenfeld 2025, arXiv:2502.08202; Chua et al. 2024, "Balls-and-bins", arXiv:2412.16802).
Under Q the likelihood ratio ``dP / dQ`` is A, the mean of t independent log-normals X of mean 1,
``log X ~ N(-1 / (2 sigma**2), 1 / sigma**2)``, and P has A times the density. So the loss is ``log
A`` where the record is removed, ``-log A`` where it is added.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from dpfunc.accounting.pairs.allocation.equal_cost import at_equal_cost
from dpfunc.accounting.pairs.allocation.lognormal import log_transform
from dpfunc.accounting.pairs.allocation.series import (
    Series,
    distribution,
    is_short,
    masses,
    series,
)
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells, OutOfReachError

_CLOSE = 2.0  # cells narrower than this over the largest frequency are integrated
_OTHER_TAIL = 1e-11  # of probability at the end of the losses that matters little
_LEAST_REACH = 1.5
_BEYOND = 1.2  # the lattice asks for a node or two beyond the largest
_LEAST_TAIL = 1e-14  # the errors of cells are larger
_COARSE = 400  # cells that show where the density is
_SHORT = 32_000  # terms of a series: a second
_SHORT_ALONE = 60_000  # where only a few places are asked for
_MOST_NODES = 4000  # finer cells have errors that no longer matter less


@dataclass(frozen=True)
class GaussianAllocation:
    """``steps`` releases, one of which holds the record; ``adds`` swaps P and Q."""

    noise_multiplier: float
    steps: int
    adds: bool

    def nodes(self, count: int, tail: float) -> Array:
        """Losses between which cells under P cost as much."""
        return _nodes(self, min(count, _MOST_NODES), max(tail, _LEAST_TAIL))

    def _at_equal_cost(self, count: int, tail: float) -> Array:
        low_tail, high_tail = (tail, _OTHER_TAIL) if self.adds else (_OTHER_TAIL, tail)
        least, most = math.log(self._least(low_tail)), math.log(self._most(high_tail))
        bulk = math.sqrt(math.expm1(min(self.noise_multiplier**-2, 4.0)) / self.steps)
        low, high = math.asinh(least / bulk), math.asinh(most / bulk)
        coarse = bulk * np.sinh(np.linspace(low, high, _COARSE))
        coarse = -coarse[::-1] if self.adds else coarse
        return at_equal_cost(coarse, self.cells(coarse).p[1:-1], count)

    def cells(self, nodes: Array) -> Cells:
        """The cells of A between the exponentials of the nodes."""
        losses = np.minimum(-nodes[::-1] if self.adds else nodes, 700.0)
        plain, sized, error = self._masses(np.exp(losses))
        shift = 8 * ULP * (1 + float(np.abs(nodes).max(initial=0.0)))
        if self.adds:
            return Cells(plain[::-1], sized[::-1], error[::-1], error[::-1], shift)
        return Cells(sized, plain, error, error, shift)

    def _masses(self, x: Array) -> tuple[Array, Array, Array]:
        """What lies between the increasing x under Q and under P, and a bound on the errors."""
        law = self._series(float(x.max()))
        found = np.zeros((3, len(x) + 1))
        width = np.diff(x)
        close = width * np.abs(law.s()[-1]) < _CLOSE
        inner = found[:, 1:-1]
        if close.any():
            inner[:, close] = masses(law, x[:-1][close], x[1:][close])
        ends = np.concatenate([[True], ~close, [True]])
        ends = ends[:-1] | ends[1:]  # nodes beside a cell that is not close
        at = np.zeros((3, len(x)))
        at[:, ends] = distribution(law, x[ends])
        inner[:2, ~close] = np.diff(at[:2])[:, ~close]
        inner[2, ~close] = (at[2, :-1] + at[2, 1:])[~close]
        found[:, 0] = at[:, 0]
        found[:2, -1], found[2, -1] = 1 - at[:2, -1], at[2, -1] + ULP
        found[:2] = np.maximum(found[:2], 0.0)
        return found[0], found[1], found[2]

    def is_quick(self, epsilon: float) -> bool:
        """Whether a short series serves delta at ``epsilon``."""
        largest = math.exp(min(1e-6 - epsilon if self.adds else epsilon + 1e-6, 600.0))
        return self._is_served(largest, _SHORT_ALONE)

    def goes_beyond(self, tail: float) -> bool:
        """Whether a short series leaves no more than about that much out, beyond its end."""
        return self._is_served(_BEYOND * self._end(tail), _SHORT)

    def _is_served(self, largest: float, most_terms: int) -> bool:
        return is_short(self.noise_multiplier, self.steps, _reach(largest), most_terms)

    def _series(self, largest: float) -> Series:
        """The table that serves up to there, and a little on: the next question is near."""
        found = _table(self.noise_multiplier, self.steps, _reach(largest))
        if found is None:
            raise OutOfReachError
        return found

    def _least(self, tail: float) -> float:
        """An x below which about so much lies: Chernoff's inequality, at its best place."""
        s = self.steps * np.geomspace(1e-4, 1e8, 80)
        log_moment = self.steps * log_transform(s / self.steps, self.noise_multiplier)
        return float(max(((math.log(tail) - log_moment) / s).max(), 1e-300))

    def _end(self, tail: float) -> float:
        """An x above which about so much lies, by one large term among usual ones."""
        z, several = -float(ndtri(tail / 4)), -float(ndtri(tail / 4 / self.steps))
        sigma = self.noise_multiplier
        own = math.exp(min(600.0, z / sigma + 0.5 / sigma**2)) / self.steps
        others = math.exp(min(600.0, several / sigma - 0.5 / sigma**2)) / self.steps
        spread = math.sqrt(math.expm1(min(sigma**-2, 4.0)) / self.steps)
        return 1 + max(own, others) + z * spread

    def _most(self, tail: float) -> float:
        """The same, or the largest x that a series serves."""
        most = self._end(tail)
        while most > _LEAST_REACH:
            try:
                self._series(_BEYOND * most)
            except OutOfReachError:
                most /= 2
            else:
                return _reach(_BEYOND * most) / _BEYOND  # one table serves all
        return most


def _reach(largest: float) -> float:
    """A power of the root of 2."""
    return float(2.0 ** (math.ceil(2 * math.log2(max(largest, _LEAST_REACH))) / 2))


@lru_cache(maxsize=64)
def _nodes(pair: GaussianAllocation, count: int, tail: float) -> Array:
    """A plan asks again for the nodes of the one before, with another tilt."""
    found = pair._at_equal_cost(count, tail)
    found.setflags(write=False)  # all who ask share them
    return found


@lru_cache(maxsize=16)
def _table(noise_multiplier: float, steps: int, reach: float) -> Series | None:
    """The series, which both orders of the pair share; None where it is out of reach."""
    try:
        return series(noise_multiplier, steps, reach)
    except OutOfReachError:
        return None
