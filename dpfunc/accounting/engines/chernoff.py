"""What moments prove about any composition: an upper bound where no other engine has an answer.

Cut down to atoms from above (`atoms`), every pair has moments ``K(c) = log E[exp(c L); L finite]``,
and a probability that its loss is infinite. Both add up over independent releases. As ``1 -
exp(epsilon - L) <= exp(c (L - epsilon)) peak(c)`` for L above epsilon, with ``peak(c) = max over u
of exp(-c u) (1 - exp(-u))``,

    delta(epsilon) <= P(some loss is infinite) + exp(K(c) - c epsilon) peak(c)   for every c > 0

(Canonne, Kamath and Steinke 2020, arXiv:2004.00010, proposition 12, with order 1 + c).
"""

import math
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.lattice.grid import Part, log_moments, log_peak
from dpfunc.accounting.pairs.atoms import Atoms, upper_atoms
from dpfunc.accounting.pairs.privacy_loss import ULP, Array

_NODES = 2000
_TAIL = 1e-300
_TRIED = np.geomspace(1e-9, 1e6, 400)  # values of c


class Moments(NamedTuple):
    """Of a composition; every c gives a valid bound."""

    c: Array
    log_moment: Array  # rounded up
    log_peak: Array
    infinite: float  # probability of an infinite loss, rounded up


def moments(composition: Composition) -> Moments:
    """The moments of the atoms from above, at many c."""
    parts: list[Part] = []
    kept, slack = [0.0], np.zeros_like(_TRIED)
    for pair, times in composition:
        nodes = pair.nodes(_NODES, _TAIL)
        # A node above the largest loss: otherwise rounding looks like an infinite one.
        top = nodes[-1] + 1e-9 * (1 + abs(nodes[-1]))
        atoms = upper_atoms(pair, np.append(nodes, top))
        if not atoms.infinite < 1:
            return _nothing()
        kept.append(times * math.log1p(-atoms.infinite))
        slack += times * (_TRIED * atoms.shift + _rounding(atoms))
        parts.append(Part(atoms, np.zeros(0, np.int64), 0.0, times))
    k = log_moments(parts, _TRIED) + slack
    peak = np.array([log_peak(c) for c in _TRIED.tolist()])
    infinite = min(1.0, -math.expm1(math.fsum(kept)) * (1 + 1e-14))
    return Moments(_TRIED, k + 8 * ULP * np.abs(k), peak, infinite)


def _nothing() -> Moments:
    """Moments that prove nothing: every loss is infinite."""
    return Moments(_TRIED, np.zeros_like(_TRIED), np.zeros_like(_TRIED), 1.0)


def _rounding(atoms: Atoms) -> Array:
    """Of the logarithm of one moment: of exponents, exponentials, and a sum of positive terms."""
    exponents = _TRIED * float(np.abs(atoms.losses).max()) + 800
    return np.asarray(ULP * (8 * exponents + len(atoms.losses)))


def log_delta_at_most(known: Moments, epsilon: float) -> float:
    """A bound of ``log delta`` at ``epsilon``."""
    if known.infinite >= 1:
        return 0.0
    exponent = known.log_moment - known.c * epsilon * (1 - 4 * ULP) + known.log_peak
    finite = float(np.min(exponent)) + 1e-12
    infinite = math.log(known.infinite) if known.infinite > 0 else -math.inf
    return min(0.0, float(np.logaddexp(finite, infinite)))


def epsilon_at_most(known: Moments, log_delta: float) -> float:
    """A bound of the smallest epsilon with ``log delta <= log_delta``; infinite if none is."""
    log_share = math.log(known.infinite) - log_delta if known.infinite > 0 else -math.inf
    if log_share >= -1e-9:  # more than delta is lost outright
        return math.inf
    left = log_delta + math.log1p(-math.exp(log_share)) - 1e-9
    found = float(np.min((known.log_moment + known.log_peak - left) / known.c))
    return max(0.0, found * (1 + 8 * ULP) + 1e-300)
