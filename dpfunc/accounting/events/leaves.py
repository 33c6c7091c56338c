"""An event flattened: the single releases it is made of, and how often each happens."""

import math

from dpfunc.accounting.events.algebra import Compose, Event, Repeat, require_event
from dpfunc.accounting.events.mechanisms import (
    ZCDP,
    ApproxDP,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    Mechanism,
    MixtureOfGaussians,
    PureDP,
    RandomizedResponse,
)
from dpfunc.accounting.events.schemes import (
    Group,
    OneRecord,
    Poisson,
    RandomAllocation,
    Scheme,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.checks import require

Leaf = Mechanism | Scheme | PrivateSelection

_MOST_NOISE = 1e100  # more is accounted as this much, an upper bound: its square must not overflow


def leaves(event: Event) -> list[tuple[Leaf, int]]:
    """The single releases of an event and how often each happens; equal ones are joined.

    What releases nothing (rate 0, infinite noise, no times) is left out, and an unsampled release
    is the same leaf whether it is written as a sample of everything or not. A group stands around
    each of its releases. ValueError for a group of what holds for one record alone.
    """
    require_event("accounting", event)
    counts: dict[Leaf, int] = {}
    for leaf, times in _flatten(event, 1, 1):
        if times > 0:
            counts[leaf] = counts.get(leaf, 0) + times
    return list(counts.items())


def _flatten(event: Event, times: int, records: int) -> list[tuple[Leaf, int]]:
    match event:
        case Repeat(inner, repeats):
            return _flatten(inner, times * repeats, records)
        case Compose(parts):
            return [leaf for part in parts for leaf in _flatten(part, times, records)]
        case Group(members, inner):
            return _flatten(inner, times, records * members)
        case OneRecord(inner):
            require(
                records == 1,
                "Group",
                "events that hold for several records at once",
                event,
                "no theorem is known for groups of records that take turns: sample with "
                "dpfunc.sampling.Poisson, or make a user one record (docs/correlated.md)",
            )
            return _flatten(inner, times, 1)
        case RandomizedResponse():  # every record of a group answers for itself
            times, records = times * records, 1
        case RandomAllocation(participations, steps, mechanism) if participations == steps:
            return _flatten(mechanism, times * steps, records)
    leaf = _canonical(event)
    if leaf is None:
        return []
    return [(leaf if records == 1 else Group(records, leaf), times)]


def _canonical(event: Event) -> Leaf | None:
    """A release without needless sampling, its noise capped; None where it tells nothing."""
    match event:
        case Poisson(0) | TruncatedPoisson(0):
            return None
        case WithoutReplacement(0) | WithReplacement(0) | RandomAllocation(0):
            return None
        case Poisson(1, mechanism):
            return _noisy(mechanism)
        case WithoutReplacement(batch_size, dataset_size, mechanism) if batch_size == dataset_size:
            return _noisy(mechanism)
        case Poisson(rate, mechanism):
            noisy = _noisy(mechanism)
            return None if noisy is None else Poisson(rate, noisy)
        case TruncatedPoisson() | WithoutReplacement() | WithReplacement():
            return None if _noisy(event.event) is None else event
        case PrivateSelection(inner):
            return event if _flatten(inner, 1, 1) else None
        case RandomAllocation() | Shuffled():
            return None if _noisy(event.event) is None else event
    require(isinstance(event, Mechanism), "accounting", "an event of dpfunc", event, "use those")
    return _noisy(event)  # type: ignore[arg-type]  # checked one line above


def _noisy(mechanism: Mechanism) -> Mechanism | None:
    """The mechanism, its noise capped; None where it tells nothing."""
    match mechanism:
        case Gaussian(math.inf) | Laplace(math.inf) | DiscreteGaussian(math.inf):
            return None
        case MixtureOfGaussians(math.inf) | DiscreteLaplace(0) | ExponentialMechanism(0):
            return None
        case PureDP(0) | ApproxDP(0, 0) | ZCDP(0, 0):
            return None
        case RandomizedResponse(1) | RandomizedResponse(_, 1):
            return None
        case Gaussian(sigma):
            return Gaussian(min(sigma, _MOST_NOISE))
    return mechanism
