"""The likelihood ratio of one Gaussian release: log-normal, of mean 1.

Masses and means of cells are probabilities of normal intervals.
"""

import math
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.allocation.ratio import Ratio, centres, split
from dpfunc.accounting.pairs.mixture import normal_mass
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError

_POINTS = 1500  # of sums on the way
_LISTED = 12_000  # of the last sum
_FAR = 10.0  # standard deviations of log X at which the points end
_NEAR = 6.5  # and up to which they are close
_LEAST_NOISE = 0.06  # ratios overflow below


@dataclass(frozen=True)
class NormalRatio:
    """Of a release with noise of this deviation, in units of what a record moves it by."""

    noise_multiplier: float

    def once(self, is_above: bool) -> Ratio:
        """Its law, cut at the places. OutOfReachError where noise is too little."""
        if self.noise_multiplier < _LEAST_NOISE:
            raise OutOfReachError
        z = self._deviations(_POINTS)
        places, ends = self._of(z), np.concatenate([[-math.inf], z, [math.inf]])
        plain, sized = normal_mass(ends), normal_mass(ends - 1 / self.noise_multiplier)
        if not is_above:
            return Ratio(centres(plain, sized, places), plain, 0.0, 1)
        return Ratio(*split(plain[:-1], sized[:-1], places), float(sized[-1]), 1)

    def places(self, _values: Array, _mass: Array, is_last: bool) -> Array:
        """Where a sum is cut."""
        return self._of(self._deviations(_LISTED if is_last else _POINTS))

    def _of(self, z: Array) -> Array:
        sigma = self.noise_multiplier
        return np.asarray(np.exp(z / sigma - 0.5 / sigma**2))

    def _deviations(self, count: int) -> Array:
        """Standard deviations of log X: close around the bulk under Q and under P, few beyond."""
        mu = 1 / self.noise_multiplier
        outer = np.linspace(0, _FAR - _NEAR, count // 20, endpoint=False)
        inner = np.linspace(-_NEAR, mu + _NEAR, count - 2 * len(outer))
        return np.concatenate([outer - _FAR, inner, mu + _FAR - outer[::-1]])
