"""The largest loss that a pair can have: its epsilon at delta 0, and a cap on any other.

Over a composition the largest losses add up (Dwork and Roth 2014, theorem 3.14).
"""

import math

import numpy as np

from dpfunc.accounting.pairs.bounded_range import BoundedRange
from dpfunc.accounting.pairs.combine import Either, Sampled, Symmetric
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.integer_mixture import DiscreteLaplaceNoise, IntegerMixture
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Pair


def largest_loss(pair: Pair) -> float:
    """Rounded up; infinity where losses have no bound, or none is known."""
    match pair:
        case FiniteLoss(values):
            largest = values[-1][0]
        case BoundedRange(eta):
            largest = eta
        case LaplaceMixture() | IntegerMixture(DiscreteLaplaceNoise()):
            largest = float(pair.nodes(2, 0.0)[-1])
        case GaussianMixture(_, (), below):  # P is the component that both have
            left = math.fsum([1.0, *(-weight for _, weight in below)])
            largest = -math.log(left) if left > 0 else math.inf
        case Sampled(inner, rate, adds):
            largest = _of_sample(inner, rate, adds)
        case Symmetric(inner):
            largest = largest_loss(inner)
        case Either(parts):
            largest = max(largest_loss(part) for _, part in parts)
        case _:
            return math.inf
    return max(0.0, largest + 16 * ULP * (1 + abs(largest)))


def _of_sample(inner: Pair, rate: float, adds: bool) -> float:
    if adds:  # without the record the loss is at most that of never having read it
        return -math.log1p(-rate)
    loss = largest_loss(inner)
    return float(np.logaddexp(math.log1p(-rate), math.log(rate) + loss))
