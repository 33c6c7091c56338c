"""One step of t at random, enclosed by lists of losses: for few steps, or little noise.

Under Q the likelihood ratio is A, the mean of t independent log-normals X of mean 1, and each order
of the pair is known by ``E[(A - K)_+]`` or ``E[(K - A)_+]`` at every K (`gaussian_allocation`):
means of convex functions of A. So a ratio that is larger in the convex order dominates the pair, in
composition as well, and the pair dominates one that is smaller (Zhu, Dong and Wang 2022,
arXiv:2106.08567, theorem 10). Sums of independent variables keep the convex order (Shaked and
Shanthikumar 2007, Stochastic Orders, theorem 3.A.12). So, for X and again for every sum of two,

- from above, what lies between two points is moved to them such that its mass and mean stay;
- from below, what lies between two points is moved to its mean.

Beyond the last point, from above, the mean is moved to infinity and the mass to 0, the limit of
such moves: the loss is infinite there. From below all of it is one cell. Masses and means of cells
of X are probabilities of normal intervals.

Rounding: points and masses have closed forms or are sums of positive terms. A share is a difference
that cancels: where little of a cell is on one of its ends, that mass may be off by any factor. What
such an error changes is the mean of the cell, by some ulp of itself, and moving all losses outward
by `_ROUNDING`, far more, makes up for it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.pairs.finite_loss import gather
from dpfunc.accounting.pairs.mixture import normal_mass
from dpfunc.accounting.pairs.privacy_loss import Array, Cells, OutOfReachError

_POINTS = 1500  # of sums on the way
_LISTED = 12_000  # of the last sum
_FAR = 10.0  # standard deviations of log X at which the points end
_NEAR = 6.5  # and up to which they are close
_LEAST_NOISE = 0.06  # ratios overflow below
_ROUNDING = 1e-10


class _Ratio(NamedTuple):
    """The mean of some terms: its places, increasing, and how much is on each."""

    x: Array
    mass: Array
    beyond: float  # E[ratio; beyond the last place], moved to infinity
    terms: int


@dataclass(frozen=True)
class AllocationList:
    """``steps`` releases, one of which holds the record: from above, or from below."""

    noise_multiplier: float
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
        ratio = _mean_of(self.noise_multiplier, self.steps, self.is_above)
        with np.errstate(divide="ignore"):
            loss = np.append(np.log(ratio.x), math.inf)
        plain = np.append(ratio.mass, 0.0)
        sized = np.append(ratio.mass * ratio.x, ratio.beyond)
        if self.adds:
            return -loss[::-1], plain[::-1], sized[::-1]
        return loss, sized, plain


@lru_cache(maxsize=8)
def _mean_of(noise_multiplier: float, steps: int, is_above: bool) -> _Ratio:
    """The law of the ratio of all steps, by sums of two."""
    if noise_multiplier < _LEAST_NOISE:
        raise OutOfReachError
    z = _deviations(noise_multiplier, _POINTS)
    places = np.exp(z / noise_multiplier - 0.5 / noise_multiplier**2)
    once = _once(noise_multiplier, z, places, is_above)
    fine = np.exp(_deviations(noise_multiplier, _LISTED) / noise_multiplier)
    fine *= math.exp(-0.5 / noise_multiplier**2)
    total, bits = once, bin(steps)[3:]
    for i, bit in enumerate(bits):
        is_last = i == len(bits) - 1
        total = _sum(total, total, fine if is_last and bit == "0" else places, is_above)
        if bit == "1":
            total = _sum(total, once, fine if is_last else places, is_above)
    return total


def _deviations(noise_multiplier: float, count: int) -> Array:
    """Standard deviations of log X: close around the bulk under Q and under P, few beyond."""
    mu = 1 / noise_multiplier
    outer = np.linspace(0, _FAR - _NEAR, count // 20, endpoint=False)
    inner = np.linspace(-_NEAR, mu + _NEAR, count - 2 * len(outer))
    return np.concatenate([outer - _FAR, inner, mu + _FAR - outer[::-1]])


def _once(noise_multiplier: float, z: Array, places: Array, is_above: bool) -> _Ratio:
    """The law of X, cut at the places."""
    ends = np.concatenate([[-math.inf], z, [math.inf]])
    plain, sized = normal_mass(ends), normal_mass(ends - 1 / noise_multiplier)
    if not is_above:
        return _Ratio(_centres(plain, sized, places), plain, 0.0, 1)
    x = np.concatenate([[0.0], places])
    return _Ratio(x, _split(plain[:-1], sized[:-1], x), float(sized[-1]), 1)


def _sum(one: _Ratio, other: _Ratio, places: Array, is_above: bool) -> _Ratio:
    """The mean of the terms of both, cut at the places."""
    terms = one.terms + other.terms
    means = np.add.outer(one.x * (one.terms / terms), other.x * (other.terms / terms)).ravel()
    plain = np.multiply.outer(one.mass, other.mass).ravel()
    cell = np.searchsorted(places, means, side="right")
    if is_above:  # beyond the last place there is nothing: means are no larger than the largest
        cell = np.minimum(cell, len(places) - 1)
    sized = gather(cell, plain * means, len(places) + 1)
    plain = gather(cell, plain, len(places) + 1)
    beyond = (one.beyond * one.terms + other.beyond * other.terms) / terms
    if not is_above:
        return _Ratio(_centres(plain, sized, places), plain, 0.0, terms)
    x = np.concatenate([[0.0], places])
    return _Ratio(x, _split(plain[:-1], sized[:-1], x), beyond * (1 + _ROUNDING), terms)


def _split(plain: Array, sized: Array, x: Array) -> Array:
    """Masses of cells on their two ends, such that masses and means stay."""
    share = np.where(plain > 0, sized - plain * x[:-1], 0.0) / np.diff(x)
    up = np.clip(share, 0.0, plain)
    masses = np.zeros(len(x))
    masses[1:] += up
    masses[:-1] += plain - up
    return masses


def _centres(plain: Array, sized: Array, places: Array) -> Array:
    """The means of cells, within them; any place where there is nothing."""
    low, high = np.append(0.0, places), np.append(places, math.inf)
    inside = np.where(np.isfinite(high), high, low)
    centre = np.divide(sized, plain, out=inside.copy(), where=plain > 0)
    return np.asarray(np.clip(centre, low, high))
