"""Releases with one finite loss, taken out of a composition: they need no engine.

Such a release is lost with some probability, and otherwise its loss is one number: nothing was
read, or a promise at epsilon 0. With ``lost`` the probability that any of them is, and ``constant``
the sum of their losses, ``delta(epsilon) = lost + (1 - lost) delta'(epsilon - constant)``, delta'
that of all other releases. Only constants of at most 0 are taken out, so that the epsilon of the
others is never negative.
"""

import math
from typing import NamedTuple

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, finite_values, log_kept, lost
from dpfunc.accounting.pairs.largest_loss import infinite_probability
from dpfunc.accounting.pairs.privacy_loss import ULP


class Apart(NamedTuple):
    """A composition in two: what is lost and what is sure, and the other releases."""

    lost: float  # probability, rounded up, by a few ulp
    constant: float  # at most 0
    off: float  # how far off the constant may be
    rest: Composition

    @property
    def surely_lost(self) -> float:
        """``lost``, rounded down."""
        return self.lost * (1 - 64 * ULP)


def apart(composition: Composition) -> Apart:
    """The composition, sorted."""
    kept, constants, rest, count = [0.0], [0.0], [], 1
    for pair, times in composition:
        finite = finite_values(pair) if isinstance(pair, FiniteLoss) else []
        if len(finite) == 1 and finite[0][0] <= 0:
            kept.append(times * log_kept(pair))  # type: ignore[arg-type]  # checked above
            constants.append(times * finite[0][0])
            count += times
        else:
            rest.append((pair, times))
    constant = math.fsum(constants)
    off = 0.0 if constant == 0 else 8 * ULP * (count + abs(constant))
    return Apart(lost(math.fsum(kept)), constant, off, tuple(rest))


def infinite_mass(composition: Composition) -> tuple[float, float]:
    """Bounds of the probability that one of all losses is infinite."""
    match composition:
        case ((FiniteLoss(values, promised=True), 1),):  # to the last digit
            known = math.fsum(p for loss, p, _ in values if loss == math.inf)
            return known, known
    least = math.fsum(
        times * log_kept(pair) for pair, times in composition if isinstance(pair, FiniteLoss)
    )
    chances = [(infinite_probability(pair), times) for pair, times in composition]
    if any(chance >= 1 for chance, _ in chances):
        return lost(least) * (1 - 64 * ULP), 1.0
    most = math.fsum(times * math.log1p(-chance) for chance, times in chances)
    return lost(least) * (1 - 64 * ULP), lost(most)
