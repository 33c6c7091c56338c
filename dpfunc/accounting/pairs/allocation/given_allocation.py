"""One step of t, at random, of a release that is given by its outcomes.

With the record the outcomes of all steps are as ``(P Q .. Q + Q P .. Q + ..) / t``, without it as
``Q .. Q``. If (P, Q) dominates a mechanism whatever it has released before, then the step of either
law is a channel from that of the pair (Blackwell; Dong, Roth and Su 2022, theorem 2). The channel
of each step may depend on what was released, and is the same under both laws. So this pair
dominates all steps together; Feldman and Shenfeld 2025 (arXiv:2502.08202, section 3) prove it too.
Where few sequences of outcomes differ by more than their order, it is a list of losses; else it
lies between the two lists of `spread`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dpfunc.accounting.pairs.allocation.given_ratio import GivenRatio
from dpfunc.accounting.pairs.allocation.spread import AllocationList
from dpfunc.accounting.pairs.finite_loss import (
    NOTHING_TOLD,
    FiniteLoss,
    finite_loss,
    of_outcomes,
)
from dpfunc.accounting.pairs.privacy_loss import Array, Cells, Pair

_MOST_LISTED = 400  # sequences of outcomes, but for their order
_MOST_STEPS = 100_000  # of lists: rounding grows with them
_LEAST = 1e-290  # of the masses of a list: smaller floats lose digits


@dataclass(frozen=True)
class GivenAllocation:
    """``p``, ``q``: of the outcomes, with the record and without; ``adds``: (Q, P) is the pair."""

    p: tuple[float, ...]
    q: tuple[float, ...]
    steps: int
    adds: bool

    def ends(self) -> tuple[Pair, Pair]:
        """A pair that this one dominates, and one that dominates it."""
        if (every := _every_loss(self.p, self.q, self.steps)) is not None:
            exact = _swapped(every) if self.adds else every
            return exact, exact
        if self.steps > _MOST_STEPS:
            return NOTHING_TOLD, self.unsampled()
        ratio = GivenRatio(of_outcomes(self.p, self.q))
        low, high = (
            AllocationList(ratio, self.steps, self.adds, is_above) for is_above in (False, True)
        )
        return low, high

    def unsampled(self) -> FiniteLoss:
        """One step that holds the record for certain, which dominates: delta is jointly convex."""
        p, q = (self.q, self.p) if self.adds else (self.p, self.q)
        return of_outcomes(p, q)

    def nodes(self, count: int, tail: float) -> Array:
        """Those of the pair that dominates."""
        return self.ends()[1].nodes(count, tail)

    def cells(self, nodes: Array) -> Cells:
        """Those of the pair that dominates."""
        return self.ends()[1].cells(nodes)


def _swapped(pair: FiniteLoss) -> FiniteLoss:
    return finite_loss((-loss, r, p) for loss, p, r in pair.values)


@lru_cache(maxsize=8)
def _every_loss(p: tuple[float, ...], q: tuple[float, ...], steps: int) -> FiniteLoss | None:
    """All losses, each mass rounded once; None where there are many, or masses are too small."""
    if math.comb(steps + len(p) - 1, len(p) - 1) > _MOST_LISTED:
        return None
    with_record, without = (
        [Fraction(mass) / sum(map(Fraction, masses)) for mass in masses] for masses in (p, q)
    )
    values = []
    for counts in _counts(steps, len(p)):
        ways = math.factorial(steps)
        for count in counts:
            ways //= math.factorial(count)
        powers = [mass**count for mass, count in zip(without, counts, strict=True)]
        terms = []
        for i, count in enumerate(counts):
            others = math.prod(powers[:i] + powers[i + 1 :])
            if count > 0:
                terms.append(count * with_record[i] * without[i] ** (count - 1) * others)
        held = ways * sum(terms, Fraction(0)) / steps
        plain = Fraction(ways * math.prod(powers))
        masses = [float(mass) for mass in (held, plain) if mass > 0]
        if min(masses, default=1.0) < _LEAST:
            return None
        if masses:
            values.append((_loss(held, plain), float(held), float(plain)))
    return finite_loss(values)


def _loss(held: Fraction, plain: Fraction) -> float:
    if held == 0 or plain == 0:
        return -math.inf if held == 0 else math.inf
    ratio = held / plain
    if 1e-300 < ratio < 1e300:
        return math.log(ratio)
    return math.log(ratio.numerator) - math.log(ratio.denominator)


def _counts(steps: int, outcomes: int) -> Iterator[tuple[int, ...]]:
    """How often each outcome can happen."""
    if outcomes == 1:
        yield (steps,)
        return
    for first in range(steps + 1):
        for rest in _counts(steps - first, outcomes - 1):
            yield (first, *rest)
