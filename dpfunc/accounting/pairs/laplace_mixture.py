"""The pair of sampled Laplace releases: a mixture of Laplace densities against another.

Everything is in units of the noise: y = output / b. P is the mixture of the noise moved up by the
shifts of ``above``, Q of the noise moved down by those of ``below``; the weights left over stand at
0. The loss increases with y and is constant beyond the shifts on either side: it has atoms there.

Why one dimension is enough for a sum in many, with its sensitivity in L1. Noise moved by u cannot
be told from noise at 0 better than on the line at the distance ``||u||_1``: move one coordinate
after the other, and group privacy (Dong, Roth and Su 2019, arXiv:1905.02383, section 2.5), which is
exact for moves along a line, adds the distances up. So for a test that says yes with probability a
at 0 and a_u at u, ``a_u`` is at most G(a) and at least the inverse of G at a, G the power of the
threshold test on the line. ``P(yes) - exp(epsilon) Q(yes)`` of mixtures grows with every a_u in P
and falls with every one in Q, and on the line the threshold test attains all the bounds at once.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.mixture import Component, cells_between, log_mixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells

_TABLE = 4001  # points from which the search for the place of a loss starts
_SMALL_TABLE = 65  # where only few places are asked for
_MOST_TURNS = 80


@dataclass(frozen=True)
class LaplaceMixture:
    """``P = Laplace + above``, ``Q = Laplace - below``: shifts and weights, as for normals.

    ``noise_multiplier`` is the scale of the noise in the units of the shifts.
    """

    noise_multiplier: float
    above: tuple[Component, ...] = ()
    below: tuple[Component, ...] = ()

    def loss(self, y: Array) -> Array:
        """``log dP/dQ`` at y scales of the noise; never falls."""
        return self._log_moved(y, self.above) - self._log_moved(-y, self.below)

    def nodes(self, count: int, tail: float) -> Array:  # noqa: ARG002  # no tail: losses are bounded
        """The losses at equal distances between the shifts, the two atoms among them."""
        low, high = self._reach()
        return np.unique(self.loss(np.linspace(low, high, count)))

    def cells(self, nodes: Array) -> Cells:
        """The cells between the places on the line where the loss passes a node."""
        return cells_between(*self._places(nodes), self._masses, self.above, self.below)

    def _log_moved(self, y: Array, components: tuple[Component, ...]) -> Array:
        moves = [shift / self.noise_multiplier for shift, _ in components]
        exponents = [np.clip(2 * y - move, -move, move) for move in moves]
        return log_mixture(exponents, components, y)

    def _reach(self) -> tuple[float, float]:
        """Where the loss stops to change on either side."""
        down = max((s for s, _ in self.below), default=0.0) / self.noise_multiplier
        up = max((s for s, _ in self.above), default=0.0) / self.noise_multiplier
        return -down, up

    def _places(self, nodes: Array) -> tuple[Array, float]:
        """The last y at which the loss is at most each node, and how far below the node it is."""
        low, high = self._reach()
        points = _TABLE if len(nodes) > _SMALL_TABLE else _SMALL_TABLE
        table = np.linspace(low, high, points)
        losses = np.maximum.accumulate(self.loss(table))
        after = np.searchsorted(losses, nodes, side="right")
        inside = (after > 0) & (after < points)
        left, right = table[np.maximum(after - 1, 0)], table[np.minimum(after, points - 1)]
        rounding = 8 * ULP * (1 + np.abs(losses).max() + high - low)
        left, missed = self._searched(nodes, left, right, inside, rounding)
        y = np.where(after == 0, -math.inf, np.where(after == points, math.inf, left))
        return y, float(missed + rounding)

    def _searched(
        self, nodes: Array, left: Array, right: Array, inside: NDArray[np.bool_], enough: float
    ) -> tuple[Array, float]:
        """The places between ``left`` and ``right``, and how far the losses there may be off.

        By false position, and by halves in turn, as the loss has corners. However far the search
        went, what it missed is counted.
        """
        under, over = self.loss(left) - nodes, self.loss(right) - nodes  # <= 0, > 0
        for turn in range(_MOST_TURNS):
            if np.abs(under[inside]).max(initial=0.0) <= enough:
                break
            with np.errstate(over="ignore"):  # it is clipped
                share = np.where(over > under, -under / np.maximum(over - under, 1e-300), 0.5)
            share = np.full_like(share, 0.5) if turn % 3 == 2 else np.clip(share, 0.01, 0.99)
            middle = left + (right - left) * share
            there = self.loss(middle) - nodes
            below = there <= 0
            left, under = np.where(below, middle, left), np.where(below, there, under)
            right, over = np.where(below, right, middle), np.where(below, over, there)
        # Where the other end is nearer, it serves as well.
        nearer = inside & (np.abs(over) < np.abs(under))
        missed = np.where(nearer, np.abs(over), np.abs(under))[inside].max(initial=0.0)
        # Nodes that are closer than rounding: their places have to be in order all the same.
        return np.maximum.accumulate(np.where(nearer, right, left)), float(missed)

    def _masses(self, ends: Array, components: tuple[Component, ...]) -> tuple[Array, Array]:
        """Probability and rounding error between the increasing ``ends`` under a mixture."""
        left = max(0.0, 1.0 - math.fsum(w for _, w in components))
        mass, error = np.zeros(len(ends) - 1), np.zeros(len(ends) - 1)
        for shift, weight in ((0.0, left), *components):
            moved = ends - shift / self.noise_multiplier
            here = weight * laplace_mass(moved)
            finite = np.where(np.isfinite(ends), np.abs(ends) + np.abs(moved), 0.0)
            size = np.maximum(finite[:-1], finite[1:])
            mass += here
            # An end that is off by an ulp moves the density there from one cell to the next.
            edge = np.exp(-np.minimum(np.abs(moved[:-1]), np.abs(moved[1:])))
            error += ULP * (here * (8 + size) + weight * size * edge)
        return mass, error


def laplace_mass(ends: Array) -> Array:
    """The probability of noise of scale 1 between consecutive ``ends``, to relative accuracy."""
    a, b = ends[:-1], ends[1:]
    flip = a >= 0  # the density is even: look from the side where it rises
    low, high = np.where(flip, -b, a), np.where(flip, -a, b)
    with np.errstate(invalid="ignore"):
        gap = np.where(low == high, 0.0, low - high)
    one_sided = -np.exp(np.minimum(high, 0.0)) * np.expm1(gap) / 2
    straddling = -np.expm1(low) / 2 - np.expm1(-np.maximum(high, 0.0)) / 2
    return np.asarray(np.where(high <= 0, one_sided, straddling))
