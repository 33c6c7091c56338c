"""What was released, as data: frozen, comparable, hashable descriptions of private mechanisms.

An event says nothing about epsilon; it is what the questions of this package are asked about.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from dpfunc.checks import is_count, is_real, require

_MOST_NOISE = 1e100  # more is accounted as this much, an upper bound: its square must not overflow
_MOST_TIMES = 2**53


def dp_sgd(*, noise_multiplier: float, sample_rate: float, steps: int) -> "Repeat":
    """DP-SGD: ``steps`` Gaussian releases, each on a fresh Poisson sample at ``sample_rate``.

    ``noise_multiplier`` is the standard deviation of the noise over the L2 clipping norm.

    >>> dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=100)
    Repeat(event=Poisson(sample_rate=0.01, event=Gaussian(noise_multiplier=1.0)), times=100)
    """
    return Repeat(Poisson(sample_rate, Gaussian(noise_multiplier)), steps)


class Phase(NamedTuple):
    """``times`` Poisson-subsampled Gaussian releases with the same parameters."""

    noise_multiplier: float
    sample_rate: float
    times: int


def phases(event: "Event") -> list[Phase]:
    """The `leaves` of an event of Gaussian releases, as numbers."""
    released = []
    for leaf, times in leaves(event):
        rate = leaf.sample_rate if isinstance(leaf, Poisson) else 1.0
        gaussian = leaf.event if isinstance(leaf, Poisson) else leaf
        released.append(Phase(gaussian.noise_multiplier, rate, times))
    return released


def leaves(event: "Event") -> list[tuple["Leaf", int]]:
    """The single releases of an event and how often each happens; equal ones are joined.

    What releases nothing (rate 0, infinite noise, no times) is left out, and an unsampled release
    is the same leaf whether it is written as a sample at rate 1 or not.
    """
    counts: dict[Leaf, int] = {}
    for leaf, times in _flatten(event, 1):
        if times > 0 and (kept := _canonical(leaf)) is not None:
            counts[kept] = counts.get(kept, 0) + times
    return list(counts.items())


def _canonical(leaf: "Leaf") -> "Leaf | None":
    match leaf:
        case Poisson(rate, Gaussian(sigma)):
            if rate == 0 or sigma == math.inf:
                return None
            gaussian = Gaussian(min(sigma, _MOST_NOISE))
            return gaussian if rate == 1 else Poisson(rate, gaussian)
        case Gaussian(sigma):
            return None if sigma == math.inf else Gaussian(min(sigma, _MOST_NOISE))
    return leaf


def _flatten(event: "Event", times: int) -> list[tuple["Leaf", int]]:
    match event:
        case Gaussian() | Poisson():
            return [(event, times)]
        case Repeat(inner, repeats):
            return _flatten(inner, times * repeats)
        case Compose(parts):
            return [leaf for part in parts for leaf in _flatten(part, times)]
    raise TypeError(
        f"accounting: expected an event but got {type(event).__name__}; "
        "build one with dpfunc.accounting.dp_sgd(...)."
    )


@dataclass(frozen=True)
class Gaussian:
    """A sum of L2 sensitivity 1 with noise ``Normal(0, noise_multiplier**2)`` on each coordinate.

    0 means no noise; ``math.inf`` means that nothing is released.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        require(
            is_real(self.noise_multiplier) and self.noise_multiplier >= 0,
            "Gaussian",
            "noise_multiplier >= 0",
            self.noise_multiplier,
            "pass the standard deviation of the noise over the clipping norm",
        )


@dataclass(frozen=True)
class Poisson:
    """``event`` on a random subset that holds each record independently with ``sample_rate``.

    Shuffled or fixed-size batches are not Poisson samples: do not account them as such.
    """

    sample_rate: float
    event: Gaussian

    def __post_init__(self) -> None:
        require(
            is_real(self.sample_rate) and 0 <= self.sample_rate <= 1,
            "Poisson",
            "a probability 0 <= sample_rate <= 1",
            self.sample_rate,
            "pass expected_batch_size / len(dataset)",
        )
        require(
            isinstance(self.event, Gaussian),
            "Poisson",
            "a Gaussian event to sample for",
            type(self.event).__name__,
            "put Repeat and Compose outside: every step draws its own sample",
            error=TypeError,
        )


@dataclass(frozen=True)
class Repeat:
    """``event``, ``times`` over with fresh randomness; each may depend on earlier releases."""

    event: "Event"
    times: int

    def __post_init__(self) -> None:
        require(
            is_count(self.times) and self.times <= _MOST_TIMES,
            "Repeat",
            "an int times >= 0 and at most 2**53",
            self.times,
            "pass the number of steps",
        )


@dataclass(frozen=True)
class Compose:
    """All of ``events`` on the same data, in any order: several phases, or several runs."""

    events: tuple["Event", ...]


Leaf = Gaussian | Poisson
Event = Leaf | Repeat | Compose
