"""A claim of privacy as a curve that no attack may cross: the most power at each error rate.

For guesses "in", with power ``P[guess | in]`` and rate ``P[guess | out]``, a claim is a concave,
increasing curve T with ``power <= T(rate)``; guesses "out", with the two exchanged, obey the same
curve, because delta is taken as the larger of both orders of the neighbouring data sets. The
tangents ``T(u) <= delta(e) + exp(e) u`` hold one by one, for negative e with ``delta(-e) = 1 -
exp(-e) + exp(-e) delta(e)``, so that any finite number of them is a valid claim, a weaker one.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

from dpfunc.accounting import ApproxDP, Event
from dpfunc.accounting import delta as delta_of
from dpfunc.accounting import epsilon as epsilon_of
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import require_event
from dpfunc.accounting.pairs.largest_loss import sum_of_largest
from dpfunc.accounting.questions.facts import has_moments_alone
from dpfunc.audit.statistics.scores import Array
from dpfunc.checks import require

_TANGENTS = 25  # with nonnegative slopes; each has its mirror image
_LEAST_DELTA = 1e-7  # tangents that come down to it say nothing about fewer scores than 1e6
_MOST_EPSILON = 600.0
_TOL = 1e-4
_UP = 1 + 1e-12  # rounding


@dataclass(frozen=True)
class Tangents:
    """``T(u) = min(1, min_j offsets[j] + exp(log_slopes[j]) u)``."""

    log_slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def power(self, rate: Array) -> Array:
        """The most power at these false-positive rates."""
        lines = np.asarray(self.offsets) + np.exp(self.log_slopes) * rate[..., None]
        most: Array = np.minimum(lines.min(-1) * _UP, 1.0)
        return most

    def rate(self, power: Array) -> Array:
        """The least false-positive rate with this power: the inverse of `power`, from below."""
        lines = (power[..., None] - np.asarray(self.offsets)) * np.exp(np.negative(self.log_slopes))
        least: Array = np.maximum(lines.max(-1) / _UP, 0.0)
        return least


@dataclass(frozen=True)
class GaussianClaim:
    """``T(u) = Phi(Phi^-1(u) + mu)``: mu-Gaussian DP (Dong, Roth and Su 2019, arXiv:1905.02383)."""

    mu: float

    def power(self, rate: Array) -> Array:
        """The most power at these false-positive rates."""
        moved: Array = ndtr(ndtri(rate) + self.mu) * _UP
        return moved

    def rate(self, power: Array) -> Array:
        """The least false-positive rate with this power."""
        moved: Array = ndtr(ndtri(np.minimum(power, 1.0)) - self.mu) / _UP
        return moved


Claim = Tangents | GaussianClaim


def approximate_claim(epsilon: float, delta: float) -> Tangents:
    """(epsilon, delta)-DP, both orders: ``min(delta + e**eps u, 1 - e**-eps (1 - delta - u))``."""
    epsilon = min(epsilon, _MOST_EPSILON)
    return Tangents((epsilon, -epsilon), (delta, _mirrored(epsilon, delta)))


def claim_of(subject: str, event: Event, relation: Relation) -> Tangents:
    """What the accountant claims of an event, by tangents over all false-positive rates.

    Epsilons are spaced evenly up to where delta is next to nothing; the largest finite loss is one
    of them, because there the curve of a promise or of randomised response has its corner.
    """
    require_event(subject, event)
    require_both_orders(subject, relation)
    if isinstance(event, ApproxDP):
        return approximate_claim(event.epsilon, event.delta)
    return _tangents(event, relation)


@lru_cache(maxsize=64)  # one event is asked about many times: each answer takes dozens of deltas
def _tangents(event: Event, relation: Relation) -> Tangents:
    top = epsilon_of(event, delta=_LEAST_DELTA, relation=relation, tol=0.1)
    if not has_moments_alone(event):
        losses = [sum_of_largest(pair) for pair in pairs(event, relation)]
        top = min(top, max(losses, default=0.0)) if top < math.inf else max(losses, default=0.0)
    top = min(top, _MOST_EPSILON)
    epsilons = [float(e) for e in np.linspace(0.0, top, _TANGENTS)] if top > 0 else [0.0]
    deltas = [delta_of(event, epsilon=e, relation=relation, tol=_TOL) for e in epsilons]
    return Tangents(
        (*epsilons, *(-e for e in epsilons)),
        (*deltas, *(_mirrored(e, d) for e, d in zip(epsilons, deltas, strict=True))),
    )


def require_both_orders(subject: str, relation: Relation) -> None:
    """Refuse a relation that bounds guesses of one kind alone."""
    require(
        relation not in ("add", "remove"),
        subject,
        "a relation with both orders of the data sets",
        relation,
        'use "add_or_remove": a guess "out" is bounded by the order that a guess "in" is not',
    )


def _mirrored(epsilon: float, delta: float) -> float:
    return 1 - math.exp(-epsilon) * (1 - delta)
