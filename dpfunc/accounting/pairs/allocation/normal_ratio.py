"""The likelihood ratio of one Gaussian release: log-normal, of mean 1.

Masses and means of cells are probabilities of normal intervals.
"""

import math
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.allocation.equal_cost import at_equal_cost
from dpfunc.accounting.pairs.allocation.ratio import Ratio, centres, split
from dpfunc.accounting.pairs.finite_loss import gather
from dpfunc.accounting.pairs.mixture import normal_mass
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError

_POINTS = 1500  # of sums on the way
_LISTED = 12_000  # of the last sum
_FAR = 10.0  # standard deviations of log X at which the points end
_NEAR = 6.5  # and up to which they are close
_EVERY = 7  # one mean in so many is enough to see the density
_LEAST_NOISE = 0.06  # ratios overflow below


@dataclass(frozen=True)
class NormalRatio:
    """Of a release with noise of this deviation, in units of what a record moves it by."""

    noise_multiplier: float

    def once(self, is_above: bool, share: float = 1.0) -> Ratio:
        """Its law, cut at that share of the places. OutOfReachError where noise is too little."""
        if self.noise_multiplier < _LEAST_NOISE:
            raise OutOfReachError
        z = self._deviations(math.ceil(_POINTS * share))
        places, ends = self._of(z), np.concatenate([[-math.inf], z, [math.inf]])
        plain, sized = normal_mass(ends), normal_mass(ends - 1 / self.noise_multiplier)
        if not is_above:
            return Ratio(centres(plain, sized, places), plain, 0.0, 1)
        return Ratio(*split(plain[:-1], sized[:-1], places), float(sized[-1]), 1)

    def places(self, values: Array, mass: Array, is_last: bool) -> Array:
        """Where a sum is cut: half of the places at equal cost.

        The others are where those of one release are, as what composes is the tail.
        """
        count = (_LISTED if is_last else _POINTS) // 2
        values, mass = values[::_EVERY], mass[::_EVERY]
        coarse = self._of(self._deviations(count))
        cell = np.searchsorted(coarse, values, side="right")
        held = gather(cell, mass + mass * values, len(coarse) + 1)  # of Q and P
        dense = at_equal_cost(np.log(coarse), held[1:-1], count)[1:-1]
        return np.unique(np.concatenate([np.exp(dense), coarse]))

    def _of(self, z: Array) -> Array:
        sigma = self.noise_multiplier
        return np.asarray(np.exp(z / sigma - 0.5 / sigma**2))

    def _deviations(self, count: int) -> Array:
        """Standard deviations of log X: close around the bulk under Q and under P, few beyond.

        The ends are the same for every count: from above no sum is beyond the last place.
        """
        mu = 1 / self.noise_multiplier
        outer = np.linspace(0, _FAR - _NEAR, max(1, count // 20), endpoint=False)
        inner = np.linspace(-_NEAR, mu + _NEAR, count - 2 * len(outer))
        return np.concatenate([outer - _FAR, inner, mu + _FAR - outer[::-1]])
