"""The pair of discrete noise on an integer: mixtures of moved noise, as for Gaussian and Laplace.

P is the noise moved up by the shifts of ``above``, Q the noise moved down by those of ``below``;
the weights left over stand at 0, and every shift is a whole number. Both kinds of noise are
log-concave, so that among all changes of at most a shift the largest is the worst: the threshold
test is the best one and its power grows with the shift. See `laplace_mixture` for mixtures, and for
integer vectors in L1 under discrete Laplace noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.finite_loss import FiniteLoss, finite_loss, gather
from dpfunc.accounting.pairs.lattice_step import lattice_step
from dpfunc.accounting.pairs.mixture import log_mixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells
from dpfunc.checks import require

WholeComponent = tuple[int, float]  # shift >= 1, weight > 0

_FAR = 40.0  # standard deviations: what is beyond has probability 0 in float64
_MOST_POINTS = 20_000_000
_MOST_LISTED = 64  # losses that are listed one by one
_MOST_ON_LATTICE = 4000  # of losses on one lattice


@dataclass(frozen=True)
class DiscreteGaussianNoise:
    """Mass proportional to ``exp(-k**2 / (2 sigma**2))``."""

    sigma: float

    def reach(self) -> int:
        """Beyond this many integers there is no mass."""
        return math.ceil(_FAR * self.sigma)

    def masses(self, k: Array) -> Array:
        """The probability of each integer; k has to hold all that have any."""
        weights = np.exp(-((k / self.sigma) ** 2) / 2)
        whole = np.arange(-self.reach(), self.reach() + 1)
        return np.asarray(weights / np.exp(-((whole / self.sigma) ** 2) / 2).sum())

    def exponent(self, x: Array, shift: int) -> Array:
        """``log f(x - shift) / f(x)``."""
        return shift * (2 * x - shift) / (2 * self.sigma**2)


@dataclass(frozen=True)
class DiscreteLaplaceNoise:
    """Mass ``tanh(decay / 2) exp(-decay |k|)``."""

    decay: float

    def reach(self) -> int:
        """Losses do not change beyond the shifts, so nothing more has to be listed."""
        return 0

    def masses(self, k: Array) -> Array:
        """The probability of each of the consecutive integers; the ends stand for all beyond."""
        mass = math.tanh(self.decay / 2) * np.exp(-self.decay * np.abs(k))
        mass[0] = self._at_most(int(k[0]))
        mass[-1] = self._at_most(-int(k[-1]))
        return mass

    def _at_most(self, k: int) -> float:
        if k <= 0:
            return math.exp(self.decay * k) / (1 + math.exp(-self.decay))
        return 1 - math.exp(-self.decay * (k + 1)) / (1 + math.exp(-self.decay))

    def exponent(self, x: Array, shift: int) -> Array:
        """``log f(x - shift) / f(x)``."""
        return self.decay * np.clip(2 * x - shift, -shift, shift)


@dataclass(frozen=True)
class IntegerMixture:
    """``P = noise + above``, ``Q = noise - below``, on the integers."""

    noise: DiscreteGaussianNoise | DiscreteLaplaceNoise
    above: tuple[WholeComponent, ...] = ()
    below: tuple[WholeComponent, ...] = ()

    def __post_init__(self) -> None:
        points = 2 * self.noise.reach() + sum(s for s, _ in self.above + self.below) + 1
        require(
            points <= _MOST_POINTS,
            "accounting",
            f"discrete noise with at most {_MOST_POINTS} integers that matter",
            points,
            "account a discrete Gaussian that wide as ZCDP(sensitivity**2 / (2 * sigma**2))",
        )

    def nodes(self, count: int, tail: float) -> Array:
        """Every loss where there are no more than ``count``, else about so many of them."""
        loss, p, r = self._points()
        top = int(np.argmax(np.cumsum(p[::-1])[::-1] - p <= tail))
        bottom = min(top, int(np.argmax(np.cumsum(r) > tail)))
        every = max(1, math.ceil((top - bottom + 1) / count))
        return np.unique(loss[np.arange(top, bottom - 1, -every)])

    def cells(self, nodes: Array) -> Cells:
        """Every integer in the cell whose upper node is the first that is not below its loss."""
        loss, p, r = self._points()
        cell = np.searchsorted(nodes, loss, side="left")
        p, r = gather(cell, p, len(nodes) + 1), gather(cell, r, len(nodes) + 1)
        largest = float(np.abs(loss).max(initial=0.0))
        relative = ULP * (16 + 4 * largest + np.bincount(cell, minlength=len(nodes) + 1))
        return Cells(p, r, p * relative, r * relative, ULP * (8 + 8 * largest))

    def listed(self) -> FiniteLoss | None:
        """The same pair as a list of its losses: of a few, or more if they lie on one lattice."""
        moves = sum(s for s, _ in self.above + self.below)
        if self.noise.reach() > 0 or moves > _MOST_ON_LATTICE:
            return None
        loss, p, r = self._points()
        if moves > _MOST_LISTED and lattice_step(np.unique(loss)) is None:
            return None
        return finite_loss(zip(loss.tolist(), p.tolist(), r.tolist(), strict=True))

    def _points(self) -> tuple[Array, Array, Array]:
        """The loss at every integer that matters, increasing, and its mass under P and Q."""
        down = max((s for s, _ in self.below), default=0) + self.noise.reach()
        up = max((s for s, _ in self.above), default=0) + self.noise.reach()
        x = np.arange(-down, up + 1, dtype=np.float64)
        loss = self._log_moved(x, self.above) - self._log_moved(-x, self.below)
        p = _mix(x, self.above, self.noise.masses)
        r = _mix(-x[::-1], self.below, self.noise.masses)[::-1]
        return np.maximum.accumulate(loss), p, r

    def _log_moved(self, x: Array, components: tuple[WholeComponent, ...]) -> Array:
        exponents = [self.noise.exponent(x, shift) for shift, _ in components]
        return log_mixture(exponents, components, x)


def _mix(
    x: Array, components: tuple[WholeComponent, ...], masses: Callable[[Array], Array]
) -> Array:
    left = max(0.0, 1.0 - math.fsum(weight for _, weight in components))
    mixed = left * masses(x)
    for shift, weight in components:
        mixed += weight * masses(x - shift)
    return mixed
