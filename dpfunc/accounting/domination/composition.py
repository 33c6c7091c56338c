"""Which pairs dominate an event: from a description of a release to what the engines integrate.

The neighbouring relations, all about one record:

- ``"add_or_remove"``: one data set has a record more. Both orders, composed apart; the worse
  counts.
- ``"remove"``, ``"add"``: one of the two orders alone: P is the output with the record, or without.
- ``"zero_out"``: the record's contribution is replaced by zero, and the size of the data set is
  public. For a sum this is the same as adding or removing it.
- ``"replace_one"``: the record is replaced by another.

A noise multiplier is always the noise over the largest contribution of one record; where the
relation lets a record move the sum by twice that, the pair does.
"""

from typing import get_args

from dpfunc.accounting.domination.release import Additive, Order, Relation, mechanism_pair, unproven
from dpfunc.accounting.domination.sampled_release import (
    is_left_known,
    poisson_pair,
    truncated_poisson_pair,
    with_replacement_pair,
    without_replacement_pair,
)
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.given import Pair as GivenPair
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.mechanisms import (
    ExponentialMechanism,
    Gaussian,
    Mechanism,
    MixtureOfGaussians,
    RandomizedResponse,
)
from dpfunc.accounting.events.schemes import (
    Group,
    Poisson,
    RandomAllocation,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.accounting.pairs.allocation.gaussian_allocation import GaussianAllocation
from dpfunc.accounting.pairs.allocation.given_allocation import GivenAllocation
from dpfunc.accounting.pairs.finite_loss import NOTHING_PRIVATE
from dpfunc.accounting.pairs.privacy_loss import Pair
from dpfunc.checks import require

Composition = tuple[tuple[Pair, int], ...]  # independent releases: pairs and how often each

ORDERS: dict[Relation, tuple[Order, ...]] = {
    "add_or_remove": ("remove", "add"),
    "zero_out": ("remove", "add"),
    "remove": ("remove",),
    "add": ("add",),
    "replace_one": ("replace_one",),
}


def pairs(event: Event, relation: Relation) -> tuple[Composition, ...]:
    """What dominates ``event``: a composition of pairs for every order of the relation.

    The event is ``(epsilon, delta)``-DP as soon as all of them are. Orders never mix: taking the
    worse order release by release would not be a pair of data sets (Lebeda et al. 2024,
    arXiv:2405.20769).
    """
    require(
        relation in get_args(Relation),
        "accounting",
        f"a relation among {', '.join(get_args(Relation))}",
        relation,
        "use add_or_remove unless the definition of your guarantee says otherwise",
    )
    each = (_composition(event, relation, order) for order in ORDERS[relation])
    return tuple(dict.fromkeys(each))  # orders with equal pairs are one


def _composition(event: Event, relation: Relation, order: Order) -> Composition:
    counts: dict[Pair, int] = {}
    for leaf, times in leaves(event):
        for part, each in _independent(leaf):
            pair = dominating_pair(part, relation, order)
            counts[pair] = counts.get(pair, 0) + times * each
    return tuple(counts.items())


def _independent(leaf: Event) -> list[tuple[Event, int]]:
    """A release as independent ones whose composition dominates it: itself, but for k of t steps.

    A uniform subset of k of the t steps is one step of each block of a uniform partition of the
    steps into k blocks of nearly equal size. It does no harm to tell the partition (delta is
    jointly convex): then it is k allocations to one step each (Feldman and Shenfeld 2025,
    arXiv:2502.08202, section 3, with all blocks of ``t // k`` steps).
    """
    match leaf:
        case RandomAllocation(participations, steps, mechanism) if participations > 1:
            size, larger = divmod(steps, participations)
            blocks = [(size, participations - larger), (size + 1, larger)]
            return [
                (RandomAllocation(1, t, mechanism) if t > 1 else mechanism, times)
                for t, times in blocks
                if times > 0
            ]
    return [(leaf, 1)]


def dominating_pair(leaf: Event, relation: Relation, order: Order, records: int = 1) -> Pair:
    """The pair of one release, for one order of the neighbouring data sets.

    ValueError where no bound is proven: there is no fallback.
    """
    if isinstance(leaf, Mechanism):
        return mechanism_pair(leaf, relation, order, records)
    match leaf:
        case Group(members, inner):
            return dominating_pair(inner, relation, order, records * members)
        case Poisson():
            return poisson_pair(leaf, relation, order, records)
        case Shuffled(mechanism):
            if relation not in ("zero_out", "replace_one"):
                raise unproven(leaf, relation, "a record more shifts the others between batches")
            if records == 1 or isinstance(mechanism, Additive):
                return mechanism_pair(mechanism, relation, order, records)
    if records > 1:
        raise unproven(
            leaf, relation, "for groups, only Poisson samples and sums with noise are covered"
        )
    match leaf:
        case TruncatedPoisson():
            return truncated_poisson_pair(leaf, relation, order)
        case WithoutReplacement():
            return without_replacement_pair(leaf, relation, order)
        case WithReplacement():
            return with_replacement_pair(leaf, relation, order)
        case RandomAllocation(1, steps, Gaussian(sigma)) if relation != "replace_one":
            if sigma == 0:
                return NOTHING_PRIVATE
            return GaussianAllocation(sigma, steps, adds=order == "add")
        case RandomAllocation(1, steps, GivenPair(p, q)) if relation != "replace_one":
            return GivenAllocation(p, q, steps, adds=order == "add")
    raise unproven(leaf, relation, "account its releases one by one")


def is_attained(leaf: Event, relation: Relation) -> bool:
    """Whether its pair is that of two actual data sets, every time that it is released.

    If so for all leaves, what is proven from below about their pairs holds for the event. Otherwise
    a pair is an upper bound alone: for a class of mechanisms, or by telling more than is released.
    """
    values = relation in ("zero_out", "replace_one")
    match leaf:
        case ExponentialMechanism() | TruncatedPoisson() | Shuffled() | PrivateSelection():
            return False
        case RandomAllocation(participations):
            return participations == 1
        case Group(records, Poisson(rate, mechanism)):
            return isinstance(mechanism, Additive) and is_left_known(records, rate)
        case Group(_, mechanism):
            return isinstance(mechanism, Additive)
        case Poisson(_, mechanism):
            always = isinstance(mechanism, Additive | MixtureOfGaussians | RandomizedResponse)
            return always or (not values and is_attained(mechanism, relation))
        case WithoutReplacement() | WithReplacement():
            return isinstance(leaf.event, Additive) and not values
    return True
