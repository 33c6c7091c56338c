"""The answer to a question: an interval that is proven to hold the truth, and who proved it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Engine = Literal[
    "closed form",
    "single release",
    "binomial",
    "enumeration",
    "contour",
    "lattice",
    "renyi",
]


@dataclass(frozen=True)
class Bounds:
    """``lower <= truth <= upper``; unpacks as ``lower, upper``, and has them at 0 and 1.

    >>> lower, upper = Bounds(1.0, 1.5, "contour")
    >>> upper, Bounds(1.0, 1.5, "contour")[0]
    (1.5, 1.0)
    """

    lower: float
    upper: float
    engine: Engine

    def __iter__(self) -> Iterator[float]:
        return iter((self.lower, self.upper))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> float:
        return (self.lower, self.upper)[place]

    @property
    def width(self) -> float:
        """How far the ends are apart, relative to the upper: 0 where both are equal."""
        if self.lower == self.upper:
            return 0.0
        return 1.0 if self.upper == math.inf else (self.upper - self.lower) / self.upper


def between(below: Bounds, above: Bounds) -> Bounds:
    """What holds of a composition that dominates one and is dominated by the other."""
    return Bounds(min(below.lower, above.upper), above.upper, above.engine)


def closer(one: Bounds, other: Bounds) -> Bounds:
    """What both say together; the engine is that of the upper end."""
    upper = min((one, other), key=lambda bounds: bounds.upper)
    return Bounds(min(max(one.lower, other.lower), upper.upper), upper.upper, upper.engine)


def distance(bounds: Bounds) -> float:
    """How far the ends of a logarithm are apart."""
    return 0.0 if bounds.lower == bounds.upper else bounds.upper - bounds.lower


def log_width(bounds: Bounds) -> float:
    """Of a logarithm, relative to its size where that is above 1."""
    return distance(bounds) / max(1.0, -bounds.upper)
