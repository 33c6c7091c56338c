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

from typing import Literal, get_args

from dpfunc.accounting.algebra import Event
from dpfunc.accounting.leaves import Leaf, leaves
from dpfunc.accounting.mechanisms import Gaussian
from dpfunc.accounting.mixture import GaussianMixture
from dpfunc.accounting.pair import Pair
from dpfunc.accounting.schemes import Poisson
from dpfunc.checks import require

Relation = Literal["add_or_remove", "add", "remove", "zero_out", "replace_one"]
Order = Literal["add", "remove", "replace_one"]
Composition = tuple[tuple[Pair, int], ...]  # independent releases: pairs and how often each

_ORDERS: dict[Relation, tuple[Order, ...]] = {
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
    return tuple(_composition(event, order) for order in _ORDERS[relation])


def _composition(event: Event, order: Order) -> Composition:
    counts: dict[Pair, int] = {}
    for leaf, times in leaves(event):
        pair = dominating_pair(leaf, order)
        counts[pair] = counts.get(pair, 0) + times
    return tuple(counts.items())


def dominating_pair(leaf: Leaf, order: Order) -> Pair:
    """The pair of one release, for one order of the neighbouring data sets."""
    match leaf:
        case Gaussian(sigma):
            return _sampled_gaussian(sigma, 1.0, order)
        case Poisson(rate, Gaussian(sigma)):
            return _sampled_gaussian(sigma, rate, order)
    raise TypeError(f"accounting: no dominating pair is known for {leaf!r} under {order}.")


def _sampled_gaussian(sigma: float, rate: float, order: Order) -> GaussianMixture:
    moved = ((1.0, rate),)
    if rate == 1:  # N(1) against N(0), and N(1) against N(-1): normals at a distance
        return GaussianMixture(sigma if order != "replace_one" else sigma / 2, above=moved)
    match order:
        case "remove":
            return GaussianMixture(sigma, above=moved)
        case "add":
            return GaussianMixture(sigma, below=moved)
        case "replace_one":
            return GaussianMixture(sigma, above=moved, below=moved)
