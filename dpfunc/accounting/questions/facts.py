"""Facts about an event that decide which way a question takes, and what is asked at all."""

import math
from typing import get_args

from dpfunc.accounting.engines.choice import Method
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.mechanisms import ZCDP, Gaussian
from dpfunc.accounting.events.schemes import Group, Poisson
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.checks import is_real, require


def chance_of_inclusion(event: Event) -> float:
    """The probability that the record is ever read, rounded up: a delta that holds at epsilon 0."""
    never = 0.0
    for leaf, times in (read := leaves(event)):
        if not isinstance(leaf, Poisson):
            return 1.0
        if len(read) == times == 1:
            return leaf.sample_rate
        never += times * math.log1p(-leaf.sample_rate)
    return min(1.0, -math.expm1(never) * (1 + 1e-12))


def least_noise(event: Event) -> float:
    """The smallest noise multiplier of all Gaussian releases."""
    gaussians = [leaf.event if isinstance(leaf, Poisson) else leaf for leaf, _ in leaves(event)]
    return min((g.noise_multiplier for g in gaussians if isinstance(g, Gaussian)), default=math.inf)


def has_moments_alone(event: Event) -> bool:
    """Whether a part of the event is known by its Renyi divergences only."""
    parts = (leaf.event if isinstance(leaf, Group) else leaf for leaf, _ in leaves(event))
    return any(isinstance(part, ZCDP | PrivateSelection) for part in parts)


def is_of_gaussians(event: Event) -> bool:
    parts = [leaf.event if isinstance(leaf, Poisson) else leaf for leaf, _ in leaves(event)]
    return all(isinstance(part, Gaussian) for part in parts)


def require_options(tol: float, method: str) -> None:
    """Refuse a width that is none, and an engine that is not known."""
    require(is_real(tol) and 0 < tol <= 1, "accounting", "a tol in (0, 1]", tol, "use 1e-5")
    require(
        method in get_args(Method),
        "accounting",
        f"a method among {', '.join(get_args(Method))}",
        method,
        "use auto",
    )
