"""The pair of a mechanism whose loss takes a few values: randomized response, epsilon-DP, others.

Any epsilon-DP mechanism is dominated by randomized response on two answers, and any (epsilon,
delta)-DP one by the same with a chance delta that the answer is given away (Kairouz, Oh and
Viswanath 2015, arXiv:1311.0776, theorem 3.4 and its proof).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells


@dataclass(frozen=True)
class FiniteLoss:
    """A loss on finitely many values: ``(loss, P, Q)`` for each, sorted by the loss.

    ``promised``: the losses are what was promised, to the last digit, and not worked out.
    """

    values: tuple[tuple[float, float, float], ...]
    promised: bool = field(default=False, compare=False)

    def nodes(self, count: int, tail: float) -> Array:  # noqa: ARG002  # the atoms are the nodes
        """The finite losses themselves."""
        return np.array([loss for loss, _, _ in self.values if math.isfinite(loss)] or [0.0])

    def cells(self, nodes: Array) -> Cells:
        """Every atom in the cell whose upper node is the first that is not below it."""
        loss, p, r = np.array(self.values).T
        cell = np.searchsorted(nodes, loss, side="left")
        p, r = gather(cell, p, len(nodes) + 1), gather(cell, r, len(nodes) + 1)
        size = 8 + float(np.abs(loss[np.isfinite(loss)]).max(initial=0.0))
        return Cells(p, r, p * size * ULP, r * size * ULP, size * ULP)


def finite_values(pair: FiniteLoss) -> list[tuple[float, float]]:
    """The finite losses that can happen under P, increasing, and their probabilities."""
    return [(loss, p) for loss, p, _ in pair.values if math.isfinite(loss) and p > 0]


def log_kept(pair: FiniteLoss) -> float:
    """The logarithm of the probability that a loss is finite, to a few ulp of itself."""
    infinite = math.fsum(p for loss, p, _ in pair.values if loss == math.inf)
    return math.log1p(-infinite) if infinite < 1 else -math.inf


def lost(log_finite: float) -> float:
    """The probability that some loss is infinite, given the logarithm of none; rounded up."""
    return min(1.0, -math.expm1(log_finite) * (1 + 8 * ULP))


def gather(cell: NDArray[np.intp], masses: Array, count: int) -> Array:
    """The total of the masses in each of ``count`` cells."""
    return np.bincount(cell, weights=masses, minlength=count).astype(np.float64)


def finite_loss(values: Iterable[tuple[float, float, float]]) -> FiniteLoss:
    """Sorted; equal losses joined, those that never happen left out."""
    joined: dict[float, tuple[float, float]] = {}
    for loss, p, r in values:
        before = joined.get(loss, (0.0, 0.0))
        joined[loss] = (before[0] + p, before[1] + r)
    return FiniteLoss(
        tuple(sorted((loss, p, r) for loss, (p, r) in joined.items() if p > 0 or r > 0))
    )


def of_outcomes(p: Sequence[float], q: Sequence[float]) -> FiniteLoss:
    """The pair of two lists of probabilities of the same outcomes, divided by their sums."""
    total_p, total_q = math.fsum(p), math.fsum(q)
    masses = [(a / total_p, b / total_q) for a, b in zip(p, q, strict=True) if a > 0 or b > 0]
    return finite_loss((_loss(a, b), a, b) for a, b in masses)


def _loss(p: float, q: float) -> float:
    if p == 0 or q == 0:
        return -math.inf if p == 0 else math.inf
    return math.log(p) - math.log(q) if p / q in (0.0, math.inf) else math.log(p / q)


def approximate_dp(epsilon: float, delta: float) -> FiniteLoss:
    """What dominates every (epsilon, delta)-DP mechanism, in either order."""
    if epsilon == math.inf:
        return NOTHING_PRIVATE
    likely, unlikely = 1 / (1 + math.exp(-epsilon)), math.exp(-epsilon) / (1 + math.exp(-epsilon))
    found = finite_loss(
        [
            (-math.inf, 0.0, delta),
            (-epsilon, (1 - delta) * unlikely, (1 - delta) * likely),
            (epsilon, (1 - delta) * likely, (1 - delta) * unlikely),
            (math.inf, delta, 0.0),
        ]
    )
    return FiniteLoss(found.values, promised=True)


def randomized_response(noise_probability: float, values: int) -> FiniteLoss:
    """A true value against another: the two answers, and the ``values - 2`` that tell nothing."""
    other = noise_probability / values
    own = 1 - noise_probability + other
    if other == 0:
        return NOTHING_PRIVATE
    most = math.log(own / other)
    rest = (values - 2) * other
    return finite_loss([(-most, other, own), (0.0, rest, rest), (most, own, other)])


def response_against_noise(noise_probability: float, values: int, *, is_first: bool) -> FiniteLoss:
    """A true value (as P where it ``is_first``) against an answer that is uniform noise."""
    other = noise_probability / values
    own, uniform = 1 - noise_probability + other, 1 / values
    rest = 1 - uniform
    low = math.log(noise_probability) if noise_probability > 0 else -math.inf
    high = math.log(own * values)
    if is_first:
        return finite_loss([(low, (values - 1) * other, rest), (high, own, uniform)])
    return finite_loss([(-high, uniform, own), (-low, rest, (values - 1) * other)])


NOTHING_TOLD = FiniteLoss(((0.0, 1.0, 1.0),))
NOTHING_PRIVATE = FiniteLoss(((-math.inf, 0.0, 1.0), (math.inf, 1.0, 0.0)))
