"""Renyi DP of any event: what filters and odometers add up, and what `ZCDP` is known by.

The divergence ``D(P || Q) = log(E_P[exp((order - 1) L)]) / (order - 1)``, L the privacy loss, adds
up over releases, even those chosen in view of earlier outcomes (Mironov 2017, arXiv:1702.07476,
proposition 1). Per release it comes from, in this order: a closed form, the moments of Gaussian
mixtures, or a dominating pair of bounded loss cut down to atoms from above.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import scipy
from scipy.special import logsumexp

from dpfunc.accounting.domination.composition import ORDERS, dominating_pair
from dpfunc.accounting.domination.release import Order, Relation
from dpfunc.accounting.engines.contour.moments import moments
from dpfunc.accounting.engines.renyi.subsampled_gaussian import log_moment
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.mechanisms import ZCDP
from dpfunc.accounting.events.schemes import Group
from dpfunc.accounting.events.selection import PrivateSelection, log_mean
from dpfunc.accounting.pairs.allocation.gaussian_allocation import GaussianAllocation
from dpfunc.accounting.pairs.allocation.given_allocation import GivenAllocation
from dpfunc.accounting.pairs.atoms import upper_atoms
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.integer_mixture import DiscreteGaussianNoise, IntegerMixture
from dpfunc.accounting.pairs.largest_loss import largest_loss
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError, Pair
from dpfunc.checks import is_real, plain, require

_NODES = 4000
_SWAPPED: dict[Relation, Relation] = {"add": "remove", "remove": "add"}
_UP = 1 + 1e-12  # rounding of a sum of positive terms, with a margin


def rdp(event: Event, *, order: float, relation: Relation = "add_or_remove") -> float:
    """An upper bound on the Renyi divergence of ``order`` of the whole event.

    Guarantee: ``D(P || Q) <= rdp`` for the outputs P, Q on every ordered pair of neighbouring data
    sets under ``relation``, also where releases were chosen in view of earlier outcomes, as long as
    the event lists what was released in the end and the bound is kept whatever the outcomes are
    (that is what `RenyiFilter` takes care of).

    | case | rdp |
    |---|---|
    | nothing released | 0 |
    | a loss may be infinite (no noise, delta > 0) | infinity |
    | order not above 1 | ValueError |
    | no proven bound | ValueError |

    Source: Mironov 2017 (arXiv:1702.07476).

    >>> from dpfunc.accounting import Gaussian, PureDP
    >>> round(rdp(Gaussian(2.0) * 8, order=3.0), 6)  # steps * order / (2 sigma**2)
    3.0
    """
    order = plain(order)
    require(is_real(order) and 1 < order < math.inf, "rdp", "a finite order > 1", order, "use 8.0")
    releases = leaves(event)
    totals = [
        math.fsum(times * _divergence(leaf, order, relation, way) for leaf, times in releases)
        for way in ORDERS[relation]
    ]
    return max(totals) * _UP


def epsilon_at_order(divergence: float, order: float, delta: float) -> float:
    """An epsilon from a Renyi divergence; it may be negative, and then 0 holds.

    Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), proposition 12.
    """
    c = order - 1
    return divergence - math.log1p(1 / c) - (math.log(delta) + math.log(order)) / c


def renyi_epsilon(event: Event, *, delta: float, relation: Relation = "add_or_remove") -> float:
    """An epsilon at ``0 < delta < 1`` from the divergences of the event, at the best order."""
    return max(0.0, best(lambda order: epsilon_at_order(_at(event, order, relation), order, delta)))


def renyi_log_delta(event: Event, *, epsilon: float, relation: Relation = "add_or_remove") -> float:
    """The logarithm of a delta at ``epsilon >= 0``, in the same way."""

    def log_delta(order: float) -> float:
        c = order - 1
        return c * (_at(event, order, relation) - epsilon - math.log1p(1 / c)) - math.log(order)

    return min(0.0, best(log_delta))


def best(bound: Callable[[float], float]) -> float:
    """The smallest of the bounds that orders give; every order gives a valid one."""
    return min(bound(order) for order in (best_of(bound), 2.0))


def best_of(bound: Callable[[float], float]) -> float:
    """The order that gives the smallest bound, nearly."""

    def at(log_c: float) -> float:
        return bound(1 + math.exp(log_c))

    coarse = min((0.5 * step for step in range(-8, 19)), key=at)
    found = scipy.optimize.minimize_scalar(
        at, bounds=(coarse - 0.5, coarse + 0.5), method="bounded", options={"xatol": 1e-6}
    )
    return 1 + math.exp(float(found.x))


def _at(event: Event, order: float, relation: Relation) -> float:
    return rdp(event, order=order, relation=relation)


def _divergence(leaf: Event, order: float, relation: Relation, way: Order) -> float:
    match leaf:
        case ZCDP(rho, xi):
            return xi + rho * order
        case Group(records, ZCDP(rho, xi)):  # Bun and Steinke 2016, proposition 27
            harmonic = math.fsum(1 / k for k in range(1, records + 1))
            return records * xi * harmonic + records**2 * rho * order
        case PrivateSelection():
            return _of_the_best(leaf, order, relation)
    return _log_moment(dominating_pair(leaf, relation, way), order) / (order - 1)


def _of_the_best(selection: PrivateSelection, order: float, relation: Relation) -> float:
    """Papernot and Steinke 2022 (arXiv:2110.03620), theorem 2, at the best second order.

    A Poisson number of runs has no such bound in terms of divergences alone.
    """
    event = selection.event
    if selection.shape == math.inf:
        raise ValueError(
            f"rdp: no bound on the moments is proven for {selection!r}; ask for epsilon, by itself."
        )
    one_run = rdp(event, order=order, relation=relation)
    return one_run + _of_ranking(selection, relation) + log_mean(selection) / (order - 1)


@lru_cache(maxsize=64)
def _of_ranking(selection: PrivateSelection, relation: Relation) -> float:
    """The terms of the second order, the least that is found.

    Of two data sets they have the divergence of the second from the first: the ranking is bounded
    from the other side than the outcome.
    """
    log_gamma = math.log(selection.gamma)
    swapped = _SWAPPED.get(relation, relation)

    def terms(other: float) -> float:
        divergence = rdp(selection.event, order=other, relation=swapped)
        return (1 + selection.shape) * ((1 - 1 / other) * divergence - log_gamma / other)

    return min(best(terms), -(1 + selection.shape) * log_gamma)


def _log_moment(pair: Pair, order: float) -> float:
    """``log E_P[exp((order - 1) L)]``, rounded up."""
    match pair:
        case GaussianMixture(sigma, ((shift, weight),), ()):
            return log_moment(sigma / shift, weight, order)
        case GaussianMixture(sigma, (), ((shift, weight),)):
            # Of the two orders this one is the smaller: Mironov et al. 2019, theorem 5.
            return log_moment(sigma / shift, weight, order)
        case GaussianMixture():
            return _mixture_moment(pair, order)
        case IntegerMixture(DiscreteGaussianNoise(sigma), ((shift, 1.0),), ()):
            # Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), proposition 5.
            return order * (order - 1) * shift * shift / (2 * sigma * sigma)
        case IntegerMixture(DiscreteGaussianNoise(sigma), above, below):
            return _averaged(sigma, above, below, order)
        case FiniteLoss(values):
            return _log_sum([(math.log(p) + (order - 1) * loss) for loss, p, _ in values if p > 0])
    if isinstance(pair, GaussianAllocation):  # a mean over the steps
        return _averaged(pair.noise_multiplier, ((1.0, 1.0),), (), order)
    if isinstance(pair, GivenAllocation):
        return _log_moment(pair.unsampled(), order)
    if largest_loss(pair) == math.inf:
        raise ValueError(f"rdp: no bound on the moments is proven for {pair}; ask for epsilon.")
    return _bounded_moment(pair, order)


def _mixture_moment(pair: GaussianMixture, order: float) -> float:
    try:
        found = moments(pair, order - 1, np.zeros(1), 1e-13)
    except OutOfReachError:
        return _averaged(pair.noise_multiplier, pair.above, pair.below, order)
    return float(found.log().real[0] + found.log_error()[0])


def _averaged(
    sigma: float,
    above: Sequence[tuple[float, float]],
    below: Sequence[tuple[float, float]],
    order: float,
) -> float:
    """A bound on the moment of a mixture of moved noise against another.

    ``p**order q**(1 - order)`` is jointly convex in p and q, so that the moment is at most the mean
    over independent components of either mixture. Of two that are d apart it is ``exp(order (order
    - 1) d**2 / (2 sigma**2))``, or less where the noise is a discrete Gaussian (Canonne, Kamath and
    Steinke 2020, arXiv:2004.00010, proposition 5).
    """
    exponents = [
        math.log(v * w) + order * (order - 1) * ((s + t) / sigma) ** 2 / 2
        for s, v in _with_rest(above)
        for t, w in _with_rest(below)
        if v * w > 0
    ]
    return _log_sum(exponents)


def _with_rest(components: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The components, and what is left at 0."""
    rest = max(0.0, 1.0 - math.fsum(weight for _, weight in components))
    return [(0.0, rest), *components]


def _bounded_moment(pair: Pair, order: float) -> float:
    """Atoms from above have the larger moments: ``x**order`` is convex in the likelihood ratio."""
    nodes = pair.nodes(_NODES, 1e-300)
    # A node above the largest loss: otherwise rounding looks like an infinite one.
    above = nodes[-1] + 1e-9 * (1 + abs(nodes[-1]))
    atoms = upper_atoms(pair, np.append(nodes, above))
    kept = atoms.p > 0
    exponents = np.log(atoms.p[kept]) + (order - 1) * (atoms.losses[kept] + atoms.shift)
    return _log_sum(exponents)


def _log_sum(exponents: Sequence[float] | Array) -> float:
    """``log(sum(exp(exponents)))`` of a moment, which is at least 1, rounded up."""
    return max(0.0, float(logsumexp(exponents)) + 1e-12)
