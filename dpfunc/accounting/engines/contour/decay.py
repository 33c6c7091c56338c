"""How small the moments of a mixture pair are far from the real axis: proofs, not observations.

Let phi be the characteristic function of the loss under P tilted by ``exp(c L)``, so that
``M(c + i t) = M(c) phi(t)``. Two facts bound it wherever it is not evaluated:

- ``d(t) = sqrt(1 - |phi(t)|**2)`` is subadditive: ``1 - |phi(t)|**2 = 2 E[sin(t D / 2)**2]`` with
  D the difference of two independent losses, and ``|sin(u + v)| <= |sin u| + |sin v|``
  (Minkowski). Hence d changes by at most ``spread * |t - t'|``, spread the standard deviation of L.
- ``|phi(t)| <= m + V / t`` with V the total variation on one side of some place of the density of
  L, that is of ``g = density(y) / L'(y)``, and m the mass on its other side, by one integration by
  parts. (Where the loss is nearly flat g is large, so leaving out a part pays.)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.engines.contour.moments import integrand, sizes
from dpfunc.accounting.pairs.mixture import Component, GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

MOST_REACH = 12.0  # of shifts, in standard deviations: more has no use for a contour
_FLAT = 1e-290  # a slope below this has lost its digits
_ROUNDING = 1e-9  # of sums of thousands of positive terms, and what lies beyond the nodes
_PER_WALK = 10_000.0  # of the effort: how many times it buys a look at some places
_PLACES = np.array([0.8, 2.2, 3.6, 5.0, 6.4, 7.8, 9.2, 10.6])  # in strides from where the proof is


class Decay(NamedTuple):
    """The constants of one pair at one c; the last two for every place of a cut."""

    spread: float
    mass: Array  # left out
    variation: Array  # of the rest


def decay(pair: GaussianMixture, c: float) -> Decay:
    """Bounds on the standard deviation and on the density's variation, of the tilted loss.

    The logarithmic derivatives of the density f and of ``g = f / L'`` are known at the nodes, and
    within half a step of one they change by at most ``bend h/2`` (cumulants of a variable between 0
    and the largest shift: variance <= most * mean, third cumulant <= most**2 * mean). So, over the
    cell around a node where ``f' / f = rho``, the integral of f is ``h f sinh(rho h/2) / (rho
    h/2)`` but for a factor of ``exp(bend h**2 / 8)`` either way; and ``|g'| <= g(node) turn
    exp(turn h/2)``. Beyond the nodes, which go 12 deviations past the last place where g can turn,
    it is monotone, and f is below ``exp(-70)``.
    """
    up = max((s for s, _ in pair.above), default=0.0) / pair.noise_multiplier
    down = max((s for s, _ in pair.below), default=0.0) / pair.noise_multiplier
    most = up + down
    if most > MOST_REACH:
        raise OutOfReachError
    bend = 1 + (1 + 2 * c) * most * most / 4 + 2 * most * most
    step = min(0.05, 0.5 / math.sqrt(bend))
    grid = integrand(pair, c, step)
    slope_a, bend_a = _slopes(grid.y, grid.log_a, pair.noise_multiplier, pair.above)
    slope_b, bend_b = _slopes(-grid.y, grid.log_b, pair.noise_multiplier, pair.below)
    slope = slope_a + slope_b
    change = -grid.y + (1 + c) * slope_a + c * slope_b
    density = grid.weight / step * np.exp(grid.exponent)
    off = math.exp(bend * step * step / 8)
    cell = density * step * _sinh_over(change * step / 2)
    least = cell.sum() / off * (1 - _ROUNDING)
    density, cell = density / least, cell * (off / least)
    steepness = np.abs(change) + bend * step / 2
    spread = _spread(grid.log_a - grid.log_b, slope, cell, steepness, step, most)
    g, rise = _turns(density, slope, change, bend_a - bend_b, bend, step)
    # Left out is what lies before a place, or what lies after it; the jump there counts as well.
    variation = np.concatenate([np.cumsum(rise[::-1])[::-1], np.cumsum(rise)])
    variation += np.concatenate([g, g]) + g[0] + g[-1]
    before = np.cumsum(cell)
    after = np.cumsum(cell[::-1])[::-1] - cell
    mass = np.concatenate([before, after]) + _ROUNDING
    return Decay(spread * (1 + _ROUNDING), mass, variation * (1 + _ROUNDING))


def _turns(
    density: Array, slope: Array, change: Array, curvature: Array, bend: float, step: float
) -> tuple[Array, Array]:
    """``g = f / L'`` at the nodes, and how much it varies around each.

    Where L' is lost to underflow, the loss is flat as far as is known: g has no bound there.
    """
    steep = slope > _FLAT
    safe = np.where(steep, slope, 1.0)
    turn = np.abs(change - curvature / safe) + bend * step / 2
    g = np.where(steep, density / safe, np.inf)
    with np.errstate(over="ignore"):
        rise = np.where(steep, step * (density / safe) * turn * np.exp(turn * step / 2), np.inf)
    return g, rise


def _spread(
    loss: Array, slope: Array, cell: Array, steepness: Array, step: float, most: float
) -> float:
    """A bound on the standard deviation of the loss: that of cells, and that within them.

    L' grows by ``exp(most h/2)`` at most within a cell, as ``|L''| <= most L'``; the mean of y in
    it is off its node by ``steepness h**2 / 12`` at most, as that of ``exp(steepness y)`` would be.
    """
    steepest = slope * math.exp(most * step / 2)
    mean = cell @ loss / cell.sum()
    off = steepest * (steepness / 12 + most / 8) * step**2
    return math.sqrt(cell @ ((np.abs(loss - mean) + off) ** 2 + (steepest * step / 2) ** 2))


def _sinh_over(x: Array) -> Array:
    """``sinh(x) / x``."""
    small = np.abs(x) < 1e-4
    safe = np.where(small, 1.0, x)
    return np.where(small, 1 + x * x / 6, np.sinh(safe) / safe)


def _slopes(
    y: Array, log_a: Array, noise_multiplier: float, components: tuple[Component, ...]
) -> tuple[Array, Array]:
    """The first two derivatives of the mixture's logarithm: mean and variance of the shift."""
    mean, square = np.zeros_like(y), np.zeros_like(y)
    for s, w in components:
        place = s / noise_multiplier
        share = np.exp(math.log(w) + place * y - place * place / 2 - log_a)
        mean += share * place
        square += share * place * place
    return mean, square - mean * mean


def require_small_beyond(
    parts: Sequence[tuple[GaussianMixture, int]],
    mu: float,
    c: float,
    start: float,
    log_size: float,
    effort: float,
) -> None:
    """Prove that the tilted characteristic function of all parts together is at most
    ``exp(log_size)`` from ``start`` on; `OutOfReachError` if that does not succeed.

    ``mu`` is the unsampled Gaussian part. The proof walks to the right, some places at a time: each
    covers what is around it, until the total variations take over.
    """
    constants = [decay(pair, c) for pair, _ in parts]
    stop = _taken_over(parts, constants, mu, log_size)
    covered, stride = start, start
    for _ in range(int(effort / _PER_WALK)):
        if covered >= stop:
            return
        t = covered + stride * _PLACES
        distances = _distances(parts, c, t, log_size, effort)
        radius = _radii(parts, constants, distances, mu, t, log_size)
        before = covered
        for place, around in zip(t, radius, strict=True):
            if place - around > covered:
                break
            covered, stride = max(covered, place + around), 1.2 * around
        if covered == before:
            stride /= 4
            if stride < covered * 5e-4:
                break
    raise OutOfReachError


def _taken_over(
    parts: Sequence[tuple[GaussianMixture, int]],
    constants: list[Decay],
    mu: float,
    log_size: float,
) -> float:
    """From here on one factor is small enough by itself, whatever the others do."""
    found = math.sqrt(-2 * log_size) / mu if mu > 0 else math.inf
    for (_, times), of in zip(parts, constants, strict=True):
        room = math.exp(log_size / times) - of.mass
        if np.any(room > 0):
            found = min(found, float(np.min(of.variation[room > 0] / room[room > 0])))
    return found


def _distances(
    parts: Sequence[tuple[GaussianMixture, int]], c: float, t: Array, log_size: float, effort: float
) -> list[Array]:
    """Lower bounds on d of every part, at the places t."""
    found = []
    for pair, times in parts:
        places = np.concatenate([[0.0], t])
        size, error = sizes(pair, c, places, min(1e-4, -1e-3 * log_size / times), effort)
        most = (size[1:] + error) / (size[0] - error)
        # Down by more than these operations, and those of `_radii`, round.
        found.append(np.sqrt(np.maximum(0.0, 1 - most * most)) * (1 - 4 * ULP))
    return found


def _radii(
    parts: Sequence[tuple[GaussianMixture, int]],
    constants: list[Decay],
    distances: list[Array],
    mu: float,
    t: Array,
    log_size: float,
) -> Array:
    """How far around each t the product stays small, by subadditivity; 0 if not even there."""

    def is_small(radius: Array) -> NDArray[np.bool_]:
        total = -((mu * (t - radius)) ** 2) / 2
        for (_, times), k, d in zip(parts, constants, distances, strict=True):
            left = np.minimum(1 - 1e-15, np.maximum(0.0, d - radius * k.spread))
            total = total + times * np.log1p(-left * left) / 2
        return np.asarray(total <= log_size)

    low, high = np.zeros_like(t), np.where(is_small(np.zeros_like(t)), t, 0.0)
    for _ in range(30):
        middle = (low + high) / 2
        good = is_small(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low
