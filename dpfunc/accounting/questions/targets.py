"""What a calibration aims at: epsilon at a delta, an advantage, or a point of the trade-off.

Each target says by how much an event misses it, from the proven end of the answer, and which
(epsilon, delta) is about as hard to meet, for a first guess.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

from scipy.special import ndtri

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.pairs.gaussian import gaussian_log_delta
from dpfunc.accounting.questions.answers import epsilon
from dpfunc.accounting.questions.tradeoff import advantage, tradeoff
from dpfunc.checks import is_real, plain, require

_FAR = 30.0  # the excess where a logarithm would be infinite


class Target(Protocol):
    """What has to hold of an event; ``repr`` names it in errors."""

    def excess(self, event: Event, relation: Relation) -> float:
        """How far the proven value is beyond the target, as a logarithm: at most 0 meets it."""

    def like(self) -> tuple[float, float]:
        """An (epsilon, delta) that is about as hard to meet; it proves nothing."""


@dataclass(frozen=True)
class EpsilonTarget:
    """(epsilon, delta)-differential privacy."""

    epsilon: float
    delta: float
    tol: float = field(default=1e-5, repr=False)  # with which epsilon is asked for

    def excess(self, event: Event, relation: Relation) -> float:
        """Of the proven epsilon."""
        proven = epsilon(event, delta=self.delta, relation=relation, tol=self.tol)
        return _excess(proven, self.epsilon)

    def like(self) -> tuple[float, float]:
        """The target itself."""
        return self.epsilon, self.delta


@dataclass(frozen=True)
class AdvantageTarget:
    """No test has a true positive rate that exceeds its false positive rate by more."""

    advantage: float

    def excess(self, event: Event, relation: Relation) -> float:
        """Of the proven advantage."""
        return _excess(advantage(event, relation=relation), self.advantage)

    def like(self) -> tuple[float, float]:
        """That of the Gaussian mechanism: its advantage is ``2 Phi(mu / 2) - 1``."""
        return _of_gaussian(2 * float(ndtri((1 + self.advantage) / 2)), 0.0)


@dataclass(frozen=True)
class TradeoffTarget:
    """No test with a false positive rate of at most alpha has a false negative rate below beta."""

    alpha: float
    beta: float

    def excess(self, event: Event, relation: Relation) -> float:
        """Of the proven power, 1 less the false negative rate."""
        proven = tradeoff(event, alpha=self.alpha, relation=relation)
        if proven >= self.beta:
            return -abs(math.log((1 - self.beta) / max(1 - proven, math.exp(-_FAR))))
        return max(5e-324, math.log((1 - proven) / (1 - self.beta)))

    def like(self) -> tuple[float, float]:
        """That of the Gaussian mechanism through the point, where its test has this threshold."""
        z, y = -float(ndtri(self.alpha)), -float(ndtri(self.beta))
        return _of_gaussian(z + y, abs(z * z - y * y) / 2)


def one_target(
    subject: str,
    target_epsilon: float | None,
    delta: float | None,
    target_advantage: float | None,
    target_tradeoff: tuple[float, float] | None,
) -> Target:
    """The one target that was given; ValueError for none, several, or one out of range."""
    target_epsilon, delta, target_advantage = map(plain, (target_epsilon, delta, target_advantage))
    given = [target_epsilon, target_advantage, target_tradeoff]
    require(
        sum(one is not None for one in given) == 1
        and (delta is None or target_epsilon is not None),
        subject,
        "one target: target_epsilon with delta, target_advantage, or target_tradeoff",
        f"target_epsilon={target_epsilon}, delta={delta}, target_advantage={target_advantage}, "
        f"target_tradeoff={target_tradeoff}",
        "pass exactly one",
    )
    if target_advantage is not None:
        require(
            is_real(target_advantage) and 0 < target_advantage < 1,
            subject,
            "0 < target_advantage < 1",
            target_advantage,
            "use 0.1",
        )
        return AdvantageTarget(float(target_advantage))
    if target_tradeoff is not None:
        return _tradeoff_target(subject, target_tradeoff)
    require(
        is_real(target_epsilon) and target_epsilon > 0,
        subject,
        "target_epsilon > 0",
        target_epsilon,
        "use a value between 0.1 and 10",
    )
    require(
        is_real(delta) and 0 < delta <= 1,
        subject,
        "a probability 0 < delta <= 1",
        delta,
        "use about 1 / (10 * size)",
    )
    return EpsilonTarget(float(target_epsilon), float(delta))


def _tradeoff_target(subject: str, point: tuple[float, float]) -> TradeoffTarget:
    point = tuple(map(plain, point)) if isinstance(point, tuple) else point
    require(
        isinstance(point, tuple)
        and len(point) == 2
        and all(map(is_real, point))
        and min(point) > 0
        and sum(point) < 1,
        subject,
        "target_tradeoff = (alpha, beta), both > 0, alpha + beta < 1",
        point,
        "use (0.05, 0.9): no attack with 5% false alarms misses fewer than 90%",
    )
    return TradeoffTarget(float(point[0]), float(point[1]))


def _excess(value: float, limit: float) -> float:
    """The logarithm of ``value / limit``, its sign certain."""
    if value > limit:
        return max(5e-324, math.log(value / limit)) if value < math.inf else _FAR
    return -abs(math.log(value / limit)) if value > 0 else -_FAR


def _of_gaussian(mu: float, epsilon: float) -> tuple[float, float]:
    """A point of the delta curve of ``N(mu, 1)`` against ``N(0, 1)`` at epsilon or a little on."""
    point = max(epsilon, mu)
    return point, math.exp(max(-700.0, gaussian_log_delta(mu, point)[1]))
