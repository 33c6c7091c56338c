"""Which pair dominates one mechanism on the records that it reads, by the neighbouring relation."""

import math
from typing import Literal

from dpfunc.accounting.events.given import Pair as GivenPair
from dpfunc.accounting.events.mechanisms import (
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    Mechanism,
    MixtureOfGaussians,
    NonPrivate,
    PureDP,
    RandomizedResponse,
)
from dpfunc.accounting.pairs.bounded_range import BoundedRange
from dpfunc.accounting.pairs.finite_loss import (
    NOTHING_PRIVATE,
    FiniteLoss,
    approximate_dp,
    finite_loss,
    of_outcomes,
    randomized_response,
    response_against_noise,
)
from dpfunc.accounting.pairs.integer_mixture import (
    DiscreteGaussianNoise,
    DiscreteLaplaceNoise,
    IntegerMixture,
)
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture
from dpfunc.accounting.pairs.largest_loss import product_above
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import Pair

Relation = Literal["add_or_remove", "add", "remove", "zero_out", "replace_one"]
Order = Literal["add", "remove", "replace_one"]
Moves = tuple[tuple[int, float], ...]  # (how many contributions the sum moves, probability > 0)

Additive = Gaussian | Laplace | DiscreteGaussian | DiscreteLaplace  # noise on a sum over records
Guarantee = ExponentialMechanism | PureDP | ApproxDP | NonPrivate  # known by what they promise


def unproven(what: object, relation: Relation, reason: str) -> ValueError:
    """The error of a question without a proven answer: there is no fallback."""
    return ValueError(f"accounting: no bound is proven for {what!r} under {relation}; {reason}.")


def mechanism_pair(
    mechanism: Mechanism, relation: Relation, order: Order, records: int = 1
) -> Pair:
    """What dominates ``mechanism`` when ``records`` records, all read, change as the relation says.

    A record that is replaced moves a sum by two contributions, one that comes, goes or is zeroed
    out by one. A promised epsilon, delta or range holds for one record of whatever relation, and
    for several by group privacy: losses add up along the way (Dwork and Roth 2014, theorem 2.2; for
    delta, lemma 2.2 of Vadhan 2017).
    """
    match mechanism:
        case Gaussian() | Laplace() | DiscreteGaussian() | DiscreteLaplace():
            distance = 2 * records if relation == "replace_one" else records
            return additive_pair(mechanism, ((distance, 1.0),))
        case ExponentialMechanism() | PureDP() | ApproxDP() | NonPrivate():
            return _promised_pair(mechanism, records)
    if records > 1:
        raise unproven(mechanism, relation, "group privacy is not known for it")
    match mechanism:
        case RandomizedResponse():
            return _response_pair(mechanism, relation, order)
        case MixtureOfGaussians():
            return mixture_pair(mechanism, relation, order, 1.0)
        case GivenPair(p, q) if relation != "replace_one":
            return of_outcomes(p, q) if order == "remove" else of_outcomes(q, p)
        case GivenPair():
            raise unproven(mechanism, relation, "it is of a record that comes, goes or is zeroed")
    raise unproven(mechanism, relation, "only Renyi DP describes it")


def additive_pair(mechanism: Additive, above: Moves = (), below: Moves = ()) -> Pair:
    """Noise on a sum: under P it moves up as ``above`` says, under Q down as ``below`` says.

    The probabilities left over are those of not moving. In one dimension, which is enough: see
    `laplace_mixture` for why.
    """
    if _is_sure(above) and _is_sure(below):  # the noise is even and moves as a whole
        above, below = ((sum(move for move, _ in above + below), 1.0),), ()
    match mechanism:
        case Gaussian(0) | Laplace(0) | DiscreteGaussian(0) | DiscreteLaplace(math.inf):
            return _without_noise(above, below)
        case Gaussian(sigma):
            if _is_sure(above) and not below:  # as one contribution: equal pairs count together
                return GaussianMixture(_divided(sigma, above[0][0]), above=((1.0, 1.0),))
            return GaussianMixture(sigma, _as_floats(above), _as_floats(below))
        case Laplace(scale):
            return LaplaceMixture(scale, _as_floats(above), _as_floats(below))
        case DiscreteGaussian(sigma, unit):
            noise = DiscreteGaussianNoise(sigma)
            return IntegerMixture(noise, _in_units(above, unit), _in_units(below, unit))
        case DiscreteLaplace(decay, unit):
            laplace = DiscreteLaplaceNoise(decay)
            pair = IntegerMixture(laplace, _in_units(above, unit), _in_units(below, unit))
            return pair.listed() or pair


def mixture_pair(
    mechanism: MixtureOfGaussians, relation: Relation, order: Order, rate: float
) -> Pair:
    """The mixture of the event itself, read with probability ``rate``."""
    if relation == "replace_one":
        raise unproven(mechanism, relation, "ask about a record that comes, goes or is zeroed")
    moves = zip(mechanism.shifts, mechanism.weights, strict=True)
    components = tuple((shift, rate * weight) for shift, weight in moves if shift * weight > 0)
    if not components:
        return FiniteLoss(((0.0, 1.0, 1.0),))
    if mechanism.noise_multiplier == 0:
        moved = math.fsum(weight for _, weight in components)
        sure = ((1, min(1.0, moved)),)
        return _without_noise(sure, ()) if order == "remove" else _without_noise((), sure)
    if order == "remove":
        return GaussianMixture(mechanism.noise_multiplier, above=components)
    return GaussianMixture(mechanism.noise_multiplier, below=components)


def _promised_pair(mechanism: Guarantee, records: int) -> Pair:
    match mechanism:
        case NonPrivate() | PureDP(math.inf) | ApproxDP(math.inf) | ExponentialMechanism(math.inf):
            return NOTHING_PRIVATE
        case ExponentialMechanism(eta):
            return BoundedRange(product_above(eta, records))
        case PureDP(epsilon):
            return approximate_dp(product_above(epsilon, records), 0.0)
        case ApproxDP(epsilon, delta):
            each = [delta * math.exp(min(step * epsilon, 700.0)) for step in range(records)]
            total = delta if records == 1 else math.fsum(each) * (1 + 1e-14)
            return approximate_dp(product_above(epsilon, records), min(1.0, total))


def _response_pair(mechanism: RandomizedResponse, relation: Relation, order: Order) -> Pair:
    match relation:
        case "replace_one":
            return randomized_response(mechanism.noise_probability, mechanism.values)
        case "zero_out":  # a record that is zeroed out answers with noise
            return response_against_noise(
                mechanism.noise_probability, mechanism.values, is_first=order == "remove"
            )
    raise unproven(
        mechanism, relation, "the number of answers is public: ask about replace_one or zero_out"
    )


def _without_noise(above: Moves, below: Moves) -> FiniteLoss:
    stays_p = max(0.0, 1.0 - math.fsum(weight for _, weight in above))
    stays_q = max(0.0, 1.0 - math.fsum(weight for _, weight in below))
    if stays_p == 0 or stays_q == 0:
        return NOTHING_PRIVATE
    values = [
        (-math.inf, 0.0, 1 - stays_q),
        (math.log(stays_p / stays_q), stays_p, stays_q),
        (math.inf, 1 - stays_p, 0.0),
    ]
    return finite_loss(values)


def _is_sure(moves: Moves) -> bool:
    return all(weight == 1 for _, weight in moves)


def _divided(sigma: float, distance: int) -> float:
    """The noise per unit of distance, rounded down."""
    exact = distance in (1, 2)
    return sigma / distance if exact else math.nextafter(sigma / distance, 0.0)


def _as_floats(moves: Moves) -> tuple[tuple[float, float], ...]:
    return tuple((float(move), weight) for move, weight in moves)


def _in_units(moves: Moves, unit: int) -> Moves:
    return tuple((move * unit, weight) for move, weight in moves)
