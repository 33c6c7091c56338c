"""Gaussian and concentrated DP of an event: mu, and rho with xi and delta.

Both add up over releases, mu in squares, whatever the releases were chosen by.
"""

import math

from dpfunc.accounting.domination.release import Relation, unproven
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.mechanisms import (
    ZCDP,
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    PureDP,
)
from dpfunc.accounting.events.schemes import Group

_UP = 1 + 1e-13  # rounding of sums of positive terms, with a margin


def mu_of(event: Event, relation: Relation) -> float:
    """The mu of Gaussian DP that ``event``, unsampled Gaussian noise, has; ValueError for others.

    ``mu**2 = sum (distance / noise_multiplier)**2``: Dong, Roth and Su 2019 (arXiv:1905.02383).
    """
    squares = []
    for leaf, times in leaves(event):
        release, records = (leaf.event, leaf.records) if isinstance(leaf, Group) else (leaf, 1)
        if not isinstance(release, Gaussian):
            raise unproven(leaf, relation, "only unsampled Gaussian noise has an exact mu")
        if release.noise_multiplier == 0:
            return math.inf
        squares.append(times * (_moved(relation) * records / release.noise_multiplier) ** 2)
    return math.sqrt(math.fsum(squares)) * _UP


def concentration(event: Event, relation: Relation) -> tuple[float, float, float]:
    """``(rho, xi, delta)``: the divergence is at most ``xi + rho * order``, but for delta."""
    parts = [(times, _of_release(leaf, relation)) for leaf, times in leaves(event)]
    rho, xi, delta = (math.fsum(times * part[i] for times, part in parts) * _UP for i in range(3))
    return rho, xi, delta


def _of_release(release: Event, relation: Relation) -> tuple[float, float, float]:
    match release:
        case Gaussian(0) | DiscreteGaussian(0) | Laplace(0):
            return math.inf, 0.0, 0.0
        case Gaussian(sigma):
            return (_moved(relation) / sigma) ** 2 / 2, 0.0, 0.0
        case DiscreteGaussian(sigma, unit):  # Canonne, Kamath and Steinke 2020, theorem 4
            return (_moved(relation) * unit / sigma) ** 2 / 2, 0.0, 0.0
        case Laplace(scale):
            return _of_pure(_moved(relation) / scale), 0.0, 0.0
        case DiscreteLaplace(decay, unit):
            return _of_pure(_moved(relation) * decay * unit), 0.0, 0.0
        case PureDP(epsilon):
            return _of_pure(epsilon), 0.0, 0.0
        case ApproxDP(epsilon, delta):  # Bun and Steinke 2016, section 8
            return _of_pure(epsilon), 0.0, delta
        case ExponentialMechanism(epsilon):  # Cesar and Rogers 2021, arXiv:2004.07223, lemma 3.4
            return epsilon**2 / 8, 0.0, 0.0
        case ZCDP(rho, xi):
            return rho, xi, 0.0
    raise unproven(release, relation, "no rho is known for it; use a RenyiFilter")


def _of_pure(epsilon: float) -> float:
    """Bun and Steinke 2016 (arXiv:1605.02065), proposition 3.3."""
    return epsilon**2 / 2


def _moved(relation: Relation) -> float:
    """How many contributions the sum moves."""
    return 2.0 if relation == "replace_one" else 1.0
