"""The likelihood ratio of one release that is given by its outcomes."""

import math
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.allocation.ratio import Ratio, cut
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.privacy_loss import Array

_POINTS = 1500  # of sums on the way
_LISTED = 12_000  # of the last sum
_ALIKE = 1e-14  # values this close are one place


@dataclass(frozen=True)
class GivenRatio:
    """Of the pair of a release with the record, and without it."""

    pair: FiniteLoss

    def once(self, is_above: bool, share: float = 1.0) -> Ratio:
        """Its law: a list as it is, or cut to that share of the most places where it is long."""
        _, p, r = np.array(self.pair.values).T
        has = r > 0
        values, mass, beyond = p[has] / r[has], r[has], float(p[~has].sum())
        places = self._places(values, mass, math.ceil(_POINTS * share))
        return Ratio(*cut(values, mass, places, is_above), beyond, 1)

    def places(self, values: Array, mass: Array, is_last: bool) -> Array:
        """Where a sum is cut."""
        return self._places(values, mass, _LISTED if is_last else _POINTS)

    def _places(self, values: Array, mass: Array, count: int) -> Array:
        """Every value where they are few; else those with as much of P and Q between them.

        And as many at even distances of the logarithm: far out there is little of either.
        """
        order = np.argsort(values, kind="stable")
        values, mass = values[order], mass[order]
        held = (mass > 0) & (values > 0)
        values, mass = values[held], mass[held]
        if not len(values):
            return np.ones(1)
        starts = np.append(True, np.diff(values) > _ALIKE * values[1:])
        distinct = np.append(values[starts], values[-1])
        if len(distinct) <= count:
            return np.unique(distinct)
        share = np.cumsum(mass / mass.sum() + mass * values / (mass * values).sum())
        by_mass = np.searchsorted(share, np.linspace(0.0, share[-1], count // 2))
        logs = np.linspace(np.log(values[0]), np.log(values[-1]), count // 2)
        by_size = np.searchsorted(values, np.exp(logs[1:-1]))
        at = np.unique(np.concatenate([by_mass, by_size, [0, len(values) - 1]]))
        return np.unique(values[np.minimum(at, len(values) - 1)])
