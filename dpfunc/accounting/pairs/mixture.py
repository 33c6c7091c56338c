"""The pair of sampled Gaussian releases: a mixture of normals against another, on the line.

Everything is in units of the noise: y = output / sigma, and shifts in units of the L2 sensitivity
stand at shift / sigma. P has its other components above 0 and Q below, so that the loss increases
with y. Poisson sampling at rate q of a Gaussian release is dominated by

- remove:      P = (1-q) N(0) + q N(1),   Q = N(0)
- add:         the two swapped, which mirrored reads P = N(0), Q = (1-q) N(0) + q N(-1)
- replace one: P = (1-q) N(0) + q N(1),   Q = (1-q) N(0) + q N(-1)

(Zhu, Dong and Wang 2022, arXiv:2106.08567, theorem 11; Lebeda et al. 2024, arXiv:2405.20769, for
replacement), and a group of k records, all added or all removed, by binomial weights on the shifts
0..k (Ganesh 2024, arXiv:2401.10294, theorem 3.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells

Component = tuple[float, float]  # shift > 0, weight > 0

_FAR = 45.0  # standard deviations: what is beyond has probability 0 in float64
_TABLE = 4001  # points from which the search for the place of a loss starts
_SMALL_TABLE = 251  # where only few places are asked for
_GAUSS = np.polynomial.legendre.leggauss(6)  # nodes and weights on (-1, 1)


def log_mixture(exponents: list[Array], components: tuple[Component, ...], like: Array) -> Array:
    """``log(1 + sum w (exp(exponent) - 1))``; the weight left over has exponent 0."""
    if not components:
        return np.zeros_like(like)
    weights = [weight for _, weight in components]
    rise = np.zeros_like(like)
    for weight, exponent in zip(weights, exponents, strict=True):
        rise += weight * np.expm1(np.minimum(exponent, 30.0))
    mixed = np.log1p(np.maximum(rise, -0.5))
    is_far = (rise <= -0.5) | (np.maximum.reduce(exponents) >= 30.0)
    if is_far.any():
        left = 1.0 - math.fsum(weights)
        far = np.full(int(is_far.sum()), math.log(left) if left > 0 else -math.inf)
        for weight, exponent in zip(weights, exponents, strict=True):
            far = np.logaddexp(far, math.log(weight) + exponent[is_far])
        mixed[is_far] = far
    return np.asarray(mixed)


def cells_between(
    places: Array,
    shift: float,
    masses: Callable[[Array, tuple[Component, ...]], tuple[Array, Array]],
    above: tuple[Component, ...],
    below: tuple[Component, ...],
) -> Cells:
    """The cells of two laws on a line, cut at ``places``, of which Q's is the mirror image.

    ``masses``: of a law with such components, between increasing ends, with their errors.
    """
    ends = np.concatenate([[-math.inf], places, [math.inf]])
    p, p_error = masses(ends, above)
    r, r_error = masses(-ends[::-1], below)
    return Cells(p, r[::-1], p_error, r_error[::-1], shift)


def log_weighted(y: Array, noise_multiplier: float, components: tuple[Component, ...]) -> Array:
    """``log(1 + sum w (exp(s y / sigma - s**2 / (2 sigma**2)) - 1))``: a mixture over N(0).

    The weight at shift 0 is whatever the others leave of 1. `log1p` keeps the digits near 0, where
    most losses are; far out logarithms are added.
    """
    exponents = [s * y / noise_multiplier - (s / noise_multiplier) ** 2 / 2 for s, _ in components]
    return log_mixture(exponents, components, y)


def mean_shift(y: Array, noise_multiplier: float, components: tuple[Component, ...]) -> Array:
    """The derivative of `log_weighted` times sigma: the mean shift, given y."""
    total = log_weighted(y, noise_multiplier, components)
    mean = np.zeros_like(y)
    for s, w in components:
        mean += s * w * np.exp(s * y / noise_multiplier - (s / noise_multiplier) ** 2 / 2 - total)
    return mean


@dataclass(frozen=True)
class GaussianMixture:
    """``P = N(0) + above``, ``Q = N(0) + below``, where the weights left over stand at 0.

    ``above`` lists the other components of P as (shift, weight); ``below`` those of Q, whose
    shifts count downwards.
    """

    noise_multiplier: float
    above: tuple[Component, ...] = ()
    below: tuple[Component, ...] = ()

    def unsampled(self) -> float | None:
        """mu, where this is just N(mu, 1) against N(0, 1)."""
        alone = len(self.above) == 1 and self.above[0][1] == 1 and not self.below
        return self.above[0][0] / self.noise_multiplier if alone else None

    def reach(self) -> float:
        """How far apart the outermost components are, in standard deviations of the noise."""
        if self.noise_multiplier == 0:
            return math.inf
        sides = (self.above, self.below)
        return sum(max((s for s, _ in side), default=0.0) for side in sides) / self.noise_multiplier

    def loss(self, y: Array) -> Array:
        """``log dP/dQ`` at y standard deviations; increases with y."""
        sigma = self.noise_multiplier
        return log_weighted(y, sigma, self.above) - log_weighted(-y, sigma, self.below)

    def slope(self, y: Array) -> Array:
        """The derivative of `loss`."""
        sigma = self.noise_multiplier
        return (mean_shift(y, sigma, self.above) + mean_shift(-y, sigma, self.below)) / sigma

    def cdfs(self, y: Array) -> tuple[Array, Array]:
        """The distribution functions of P and Q at y standard deviations."""
        return self._cdf(y, self.above, 1.0), 1.0 - self._cdf(-y, self.below, 1.0)

    def survivals(self, y: Array) -> tuple[Array, Array]:
        """The probabilities of P and Q above y: small ones as exact as large ones."""
        return self._cdf(-y, self.above, -1.0), self._cdf(-y, self.below, 1.0)

    def _cdf(self, y: Array, components: tuple[Component, ...], side: float) -> Array:
        """Of a mixture whose components lie on that side of 0."""
        left = 1.0 - math.fsum(w for _, w in components)
        moved = [w * ndtr(y - side * s / self.noise_multiplier) for s, w in components]
        return np.asarray(sum(moved, left * ndtr(y)))

    def nodes(self, count: int, tail: float) -> Array:
        """Losses at equal distances of y: close where the loss is small, far apart where large.

        P has about ``tail`` beyond the last, so that components of less weight get no nodes: their
        losses may be so large that no tilt would fit them and all others.
        """
        tail = max(tail, 1e-300)
        reach, share = _far_out(tail / 4), tail / (4 * max(1, len(self.above)))
        ends = [s / self.noise_multiplier + _far_out(share / w) for s, w in self.above if w > share]
        return np.unique(self.loss(np.linspace(-reach, max([reach, *ends]), count)))

    def cells(self, nodes: Array) -> Cells:
        """The cells between the places on the line where the loss is that of a node."""
        return cells_between(*self._places(nodes), self._masses, self.above, self.below)

    def _places(self, nodes: Array) -> tuple[Array, float]:
        """The y at which the loss is each node, and how far the loss there may be from it."""
        most = max((s for s, _ in self.above + self.below), default=0.0) / self.noise_multiplier
        points = _TABLE if len(nodes) > _SMALL_TABLE else _SMALL_TABLE
        table = np.linspace(-_FAR - most, _FAR + most, points)
        losses, first = np.unique(self.loss(table), return_index=True)
        y = np.interp(nodes, losses, table[first], left=-math.inf, right=math.inf)
        low = np.where(np.isfinite(y), y, 0.0) - (table[1] - table[0]) * 2
        high = low + (table[1] - table[0]) * 4
        inside = np.isfinite(y)
        at = np.where(inside, y, 0.0)
        rounding = 4 * ULP * (1 + np.abs(nodes) + most * np.abs(at))
        for _ in range(200):
            error = np.where(inside, self.loss(at) - nodes, 0.0)
            if np.all(np.abs(error) <= rounding):
                break
            low, high = np.where(error < 0, at, low), np.where(error < 0, high, at)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                step = at - error / self.slope(at)
            at = np.where((step > low) & (step < high), step, (low + high) / 2)
        residual = np.abs(self.loss(at) - nodes)[inside].max(initial=0.0)
        # Where the loss is flat, rounding moves places by more than they are apart. A place that an
        # earlier one has overtaken has nearly the same loss: it lies between both nodes.
        y = np.maximum.accumulate(np.where(inside, at, y))
        y[nodes >= self._largest() - rounding] = math.inf  # nothing is above it
        return y, float(residual + rounding[inside].max(initial=0.0))

    def _largest(self) -> float:
        """The loss that all others stay below."""
        left = 1.0 - math.fsum(w for _, w in self.below)
        return math.inf if self.above or left <= 0 else -math.log(left)

    def _masses(self, ends: Array, components: tuple[Component, ...]) -> tuple[Array, Array]:
        """Probability and rounding error between the increasing ``ends`` under a mixture."""
        left = max(0.0, 1.0 - math.fsum(w for _, w in components))
        mass, error = np.zeros(len(ends) - 1), np.zeros(len(ends) - 1)
        for shift, weight in ((0.0, left), *components):
            centre = shift / self.noise_multiplier
            here = weight * normal_mass(ends - centre)
            at = np.where(np.isfinite(ends), np.abs(ends - centre), 0.0)
            far = np.maximum(at[:-1], at[1:])
            mass += here
            error += here * ULP * (8 + 2 * far * (far + centre))
        return mass, error


def _far_out(tail: float) -> float:
    """A place that a standard normal number exceeds with less than this probability."""
    return -float(ndtri(tail)) + 0.5


def normal_mass(ends: Array) -> Array:
    """The standard normal probability between consecutive ``ends``, to relative accuracy.

    Distribution functions cancel between close ends, so there the density is integrated by
    Gauss-Legendre quadrature: six points are exact to rounding over such a range.
    """
    a, b = ends[:-1], ends[1:]
    with np.errstate(invalid="ignore"):  # infinite ends
        flip = a + b > 0  # from the side where distribution functions are small
    low, high = np.where(flip, -b, a), np.where(flip, -a, b)
    mass = ndtr(high) - ndtr(low)
    with np.errstate(invalid="ignore"):
        close = (b - a) * np.maximum(1.0, np.abs(high)) < 0.5
    middle, half = (a[close] + b[close]) / 2, (b[close] - a[close]) / 2
    points = middle + half * _GAUSS[0][:, None]
    density = np.exp(-points * points / 2) / math.sqrt(2 * math.pi)
    mass[close] = half * (_GAUSS[1] @ density)
    return np.asarray(mass)
