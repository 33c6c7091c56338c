"""What an audit has seen, as `Scores`, and what it may say about it, as a `Result`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from dpfunc.accounting.domination.release import Relation
from dpfunc.checks import is_real, plain, require

Array = NDArray[np.float64]
Setting = Literal["independent", "one_run"]

_UNFAIR = 1e-9  # a split that fair coins make less often is no work of fair coins
_FEW = 20  # below this, as many in as out is nothing strange


@dataclass(frozen=True)
class Scores:
    """One number for each canary, larger where it looks more as if it had taken part.

    ``inside`` are those of canaries that were in, ``outside`` of those that were not. Infinite
    scores are as good as others; NaN is not. ``fair_coins`` is only asked for in the setting
    ``"one_run"``, and only if exactly half of the canaries were in: it says that each was decided
    by a coin of its own, and not by dealing out two halves, which the theorem does not cover.

    >>> Scores([2.0, 1.5], [0.1, -0.3]).inside
    (2.0, 1.5)
    """

    inside: tuple[float, ...]
    outside: tuple[float, ...]
    fair_coins: bool = False

    def __post_init__(self) -> None:
        for name in ("inside", "outside"):
            object.__setattr__(self, name, _as_numbers(name, getattr(self, name)))

    @staticmethod
    def of(values: Sequence[float], member: Sequence[bool]) -> "Scores":
        """``values`` of all canaries and, in the same order, whether each was in.

        >>> Scores.of([2.0, 0.1], [True, False]).outside
        (0.1,)
        """
        scores, is_in = np.asarray(values, dtype=np.float64), np.asarray(member)
        require(
            is_in.dtype == np.bool_ and is_in.shape == scores.shape and scores.ndim == 1,
            "Scores.of",
            "as many booleans in member as there are values",
            f"{is_in.dtype} {is_in.shape} for {scores.shape}",
            "pass one True or False for each score",
        )
        return Scores(tuple(scores[is_in]), tuple(scores[~is_in]))


@dataclass(frozen=True)
class Result:
    """An answer, and all that belongs to it: never print ``value`` without the rest.

    ``value``: a lower bound of epsilon or mu, or a p-value, as the ``method`` says. The bound is
    above the truth with probability at most ``1 - confidence``; a p-value is below alpha with
    probability at most alpha (``confidence`` is None). ``assumptions`` says what this rests on.
    """

    value: float
    confidence: float | None
    relation: Relation
    method: str
    n_in: int
    n_out: int
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        sure = "" if self.confidence is None else f" at confidence {self.confidence:g}"
        words = "; ".join(self.assumptions)
        return (
            f"{self.value:.6g}{sure} ({self.method}; {self.relation}; {self.n_in} in, "
            f"{self.n_out} out; holds if: {words})"
        )


def require_fair_coins(subject: str, scores: Scores) -> None:
    """Refuse splits that independent fair coins hardly make, and dealt halves."""
    n_in, n_out = len(scores.inside), len(scores.outside)
    total = n_in + n_out
    chance = 2 * float(scipy.stats.binom.cdf(min(n_in, n_out), total, 0.5))
    require(
        chance >= _UNFAIR,
        subject,
        "canaries that were each in with probability 1/2",
        f"{n_in} in and {n_out} out",
        "draw who is in with dpfunc.audit.coins; one run proves nothing otherwise",
    )
    require(
        n_in != n_out or total < _FEW or scores.fair_coins,
        subject,
        "a fair coin for each canary",
        f"exactly half of {total} in",
        "two halves that are dealt out depend on each other, which the theorem does not cover; "
        "if each canary had a coin of its own say so: Scores(..., fair_coins=True)",
    )


def require_confidence(subject: str, confidence: float) -> float:
    """The confidence as Python's number."""
    confidence = plain(confidence)
    require(
        is_real(confidence) and 0.5 <= confidence < 1,
        subject,
        "a confidence of at least 0.5 and below 1",
        confidence,
        "use 0.95",
    )
    return confidence


def _as_numbers(name: str, values: Any) -> tuple[float, ...]:
    numbers = np.asarray(values, dtype=np.float64)
    require(
        numbers.ndim == 1 and len(numbers) > 0,
        "Scores",
        f"a row of numbers {name}",
        f"shape {numbers.shape}",
        "pass one score for each canary",
    )
    require(
        not np.isnan(numbers).any(),
        "Scores",
        f"scores {name} that can be compared",
        f"{int(np.isnan(numbers).sum())} of {len(numbers)} NaN",
        "find out why: a release that is not a number tells who was in, too",
    )
    return tuple(numbers.tolist())
