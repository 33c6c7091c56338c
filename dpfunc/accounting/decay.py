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

from dpfunc.accounting.mixture import Component, GaussianMixture
from dpfunc.accounting.moments import integrand, moments
from dpfunc.accounting.pair import Array, OutOfReachError

MOST_REACH = 12.0  # of shifts, in standard deviations: more has no use for a contour
_PER_EVALUATION = 10_000.0  # of the effort: how many evaluations it buys


class Decay(NamedTuple):
    """The constants of one pair at one c; the last two for every place of a cut."""

    spread: float
    mass: Array  # left out
    variation: Array  # of the rest


def decay(pair: GaussianMixture, c: float) -> Decay:
    """Bounds on the standard deviation and on the density's variation, of the tilted loss.

    With ``g = exp(x) density / L'``, its logarithmic derivative ``rho = -y + x' - L''/L'`` is
    known, and ``rho'`` is at most ``bend`` in size (cumulants of a variable between 0 and the
    largest shift: variance <= most * mean, third cumulant <= most**2 * mean). So within half
    a step of a node ``|g'| <= g(node) (|rho| + bend h/2) exp((|rho| + bend h/2) h/2)``. Beyond
    the nodes, which go 12 deviations past the last place where g can turn, it is monotone.
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
    loss, slope = grid.log_a - grid.log_b, slope_a + slope_b
    density = grid.weight / step * np.exp(grid.exponent)
    density /= step * density.sum()
    mean = step * (density @ loss)
    spread = math.sqrt(step * (density @ (loss - mean) ** 2))
    change = -grid.y + (1 + c) * slope_a + c * slope_b - (bend_a - bend_b) / slope
    turn = np.abs(change) + bend * step / 2
    g = density / slope
    rise = step * g * turn * np.exp(turn * step / 2)
    # Left out is what lies before a place, or what lies after it; the jump there counts as well.
    variation = np.concatenate([np.cumsum(rise[::-1])[::-1], np.cumsum(rise)])
    variation += np.concatenate([g, g]) + g[0] + g[-1]
    mass = np.cumsum(density * step)
    # The sums are trapezoid sums of analytic functions: 1e-3 covers their error many times.
    mass = np.concatenate([mass, mass[-1] - mass]) + 1e-3
    return Decay(spread * 1.001, mass, variation * 1.001)


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

    ``mu`` is the unsampled Gaussian part. The proof walks to the right: each evaluation covers
    the points around it, until the total variations take over.
    """
    constants = [decay(pair, c) for pair, _ in parts]
    stop = _taken_over(parts, constants, mu, log_size)
    covered, t = start, 3 * start
    for _ in range(int(effort / _PER_EVALUATION)):
        if covered >= stop:
            return
        distances = _distances(parts, c, t, log_size, effort)
        radius = _radius(parts, constants, distances, mu, t, log_size)
        if t - radius > covered:
            t = min(covered + 0.9 * radius, (t + covered) / 2)
            if t < covered * 1.0005:
                break
        else:
            covered = t + radius
            t = max(covered + 1.5 * radius, 2 * covered if radius > t / 3 else 0.0)
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
    parts: Sequence[tuple[GaussianMixture, int]], c: float, t: float, log_size: float, effort: float
) -> list[float]:
    """Lower bounds on d(t) of every part."""
    found = []
    for pair, times in parts:
        at = moments(pair, c, np.array([0.0, t]), min(1e-4, -1e-3 * log_size / times), effort)
        most = (abs(1 + at.excess[1]) + at.error[1]) / (1 + at.excess[0].real - at.error[0])
        found.append(math.sqrt(max(0.0, 1 - most * most)))
    return found


def _radius(
    parts: Sequence[tuple[GaussianMixture, int]],
    constants: list[Decay],
    distances: list[float],
    mu: float,
    t: float,
    log_size: float,
) -> float:
    """How far around t the product stays small, by subadditivity."""

    def largest(radius: float) -> float:
        total = -((mu * (t - radius)) ** 2) / 2
        for (_, times), k, d in zip(parts, constants, distances, strict=True):
            left = min(1 - 1e-15, max(0.0, d - radius * k.spread))
            total += times * math.log1p(-left * left) / 2
        return total

    low, high = 0.0, t
    if largest(low) > log_size:
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if largest(middle) <= log_size else (low, middle)
    return low
