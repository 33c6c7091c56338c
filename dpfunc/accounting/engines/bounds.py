"""The answer to a question: an interval that is proven to hold the truth, and who proved it."""

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
    """``lower <= truth <= upper``; unpacks as ``lower, upper``.

    >>> lower, upper = Bounds(1.0, 1.5, "contour")
    >>> upper
    1.5
    """

    lower: float
    upper: float
    engine: Engine

    def __iter__(self) -> Iterator[float]:
        return iter((self.lower, self.upper))

    @property
    def width(self) -> float:
        """How far the ends are apart, relative to the upper: 0 where both are equal."""
        return 0.0 if self.lower == self.upper else (self.upper - self.lower) / self.upper
