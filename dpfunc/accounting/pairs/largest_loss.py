"""The largest loss that a pair can have: its epsilon at delta 0, and a cap on any other.

Over a composition the largest losses add up (Dwork and Roth 2014, theorem 3.14).
"""

import math
from collections.abc import Iterable

import numpy as np

from dpfunc.accounting.pairs.bounded_range import BoundedRange
from dpfunc.accounting.pairs.combine import Either, Sampled, Symmetric
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, log_kept, lost
from dpfunc.accounting.pairs.integer_mixture import DiscreteLaplaceNoise, IntegerMixture
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import ULP, Pair


def largest_loss(pair: Pair) -> float:
    """Rounded up; infinity where losses have no bound, or none is known, or one may be infinite."""
    return largest_finite_loss(pair) if infinite_probability(pair) == 0 else math.inf


def largest_finite_loss(pair: Pair) -> float:
    """The largest loss but for infinite ones, whose probability `infinite_probability` tells.

    Under (epsilon, delta)-DP, say, it is epsilon. Rounded up; infinity where there is no bound.
    """
    match pair:
        case FiniteLoss(values):
            finite = [loss for loss, p, _ in values if p > 0 and loss < math.inf]
            largest = max(finite, default=0.0)
            if pair.promised:
                return max(0.0, largest)
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
            largest = largest_finite_loss(inner)
        case Either(parts):
            largest = max(largest_finite_loss(part) for _, part in parts)
        case _:
            return math.inf
    return max(0.0, largest + 16 * ULP * (1 + abs(largest)))


def sum_of_largest(pairs: Iterable[tuple[Pair, int]]) -> float:
    """The sum of the largest finite losses of pairs that happen so many times, rounded up."""
    each = [product_above(largest_finite_loss(pair), times) for pair, times in pairs]
    total = math.fsum(each)
    return total if len(each) < 2 else math.nextafter(total, math.inf)


def product_above(loss: float, times: int) -> float:
    """Their product, rounded up where a float cannot hold it."""
    product = loss * times
    if math.isinf(product):
        return product
    (n, d), (a, b) = loss.as_integer_ratio(), product.as_integer_ratio()
    return product if a * d >= times * n * b else math.nextafter(product, math.inf)


def infinite_probability(pair: Pair) -> float:
    """The probability under P of an infinite loss, rounded up by a few ulp; 0 if there is none."""
    match pair:
        case FiniteLoss():
            return lost(log_kept(pair))
        case Sampled(inner, rate, adds):  # P is part of Q where it adds
            return 0.0 if adds else rate * infinite_probability(inner) * (1 + 4 * ULP)
        case Symmetric(inner):
            return infinite_probability(inner)
        case Either(parts, rounding):
            each = math.fsum(weight * infinite_probability(part) for weight, part in parts)
            return min(1.0, each * (1 + rounding + 16 * ULP))
    return 0.0


def _of_sample(inner: Pair, rate: float, adds: bool) -> float:
    if adds:  # without the record the loss is at most that of never having read it
        return -math.log1p(-rate)
    loss = largest_finite_loss(inner)
    return float(np.logaddexp(math.log1p(-rate), math.log(rate) + loss))
