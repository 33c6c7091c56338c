"""A release that is given by its outcomes: how likely each is with the record, and without it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpfunc.accounting.events.algebra import Event
from dpfunc.checks import is_real, require

_LEAST = 1e-300  # smaller floats lose digits


@dataclass(frozen=True, repr=False)
class Pair(Event):
    """Outcome i has probability ``p[i]`` with the record, ``q[i]`` without it (or zeroed out).

    For a mechanism with several neighbouring data sets, p and q are a dominating pair of removing a
    record, and q and p one of adding it (Zhu, Dong and Wang 2022, arXiv:2106.08567). Both count as
    divided by their sums, which have to be 1 to within 1e-9; none but 0 may be below 1e-300. An
    outcome of probability 0 on one side gives the record away. Replacing one record is another
    pair: ask about one that comes, goes or is zeroed out.

    >>> from dpfunc.accounting import delta
    >>> round(delta(Pair((0.6, 0.4), (0.4, 0.6)), epsilon=0.0), 12)
    0.2
    """

    p: tuple[float, ...]
    q: tuple[float, ...]

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        for name, masses in (("p", self.p), ("q", self.q)):
            require(
                isinstance(masses, tuple)
                and len(masses) == len(self.p) > 0
                and all(is_real(mass) and 0 <= mass <= 1 for mass in masses),
                "Pair",
                f"a tuple {name} of probabilities, one for each outcome",
                masses,
                "list the probabilities of the same outcomes in p and in q",
            )
            require(
                all(mass == 0 or mass >= _LEAST for mass in masses),
                "Pair",
                f"probabilities {name} that are 0 or at least {_LEAST}",
                min(mass for mass in masses if mass > 0),
                "leave such outcomes out, and add their probability to delta",
            )
            require(
                abs(math.fsum(masses) - 1) <= 1e-9,
                "Pair",
                f"probabilities {name} that sum to 1",
                math.fsum(masses),
                "divide by their sum",
            )

    @classmethod
    def of_losses(cls, losses: Sequence[float], probabilities: Sequence[float]) -> "Pair":
        """The pair whose privacy loss ``log(p / q)`` has these values, so likely with the record.

        What `dp_accounting` and other libraries call a privacy loss distribution. A loss of
        ``math.inf`` gives the record away. Without the record an outcome is ``exp(-loss)`` times as
        likely; what is missing to 1 there, by more than rounding, is an outcome that never comes
        with the record. Losses beyond some 690 count as infinite: from above. Each loss is kept to
        within the rounding of a float.

        ValueError where ``probabilities`` do not sum to 1, or where the losses are so low that they
        are those of no pair: the mean of ``exp(-loss)`` is above 1.

        >>> from dpfunc.accounting import delta
        >>> pair = Pair.of_losses((0.5, -0.5), (0.7, 0.3))
        >>> round(delta(pair, epsilon=0.0, relation="remove"), 12)
        0.275428538201
        """
        losses, probabilities = tuple(losses), tuple(probabilities)
        require(
            len(losses) == len(probabilities) > 0
            and all(is_real(loss) and loss > -math.inf for loss in losses),
            "Pair.of_losses",
            "losses that are numbers or math.inf, one for each probability",
            losses,
            "leave out outcomes that never come with the record: they follow from the others",
        )
        require(
            all(is_real(mass) and 0 <= mass <= 1 for mass in probabilities),
            "Pair.of_losses",
            "probabilities between 0 and 1",
            probabilities,
            "pass how likely each loss is with the record",
        )
        without = [
            mass and math.exp(min(700.0, math.log(mass) - loss)) if loss < math.inf else 0.0
            for loss, mass in zip(losses, probabilities, strict=True)
        ]
        without = [mass if mass >= _LEAST else 0.0 for mass in without]
        total = math.fsum(without)
        require(
            total <= 1 + 1e-9,
            "Pair.of_losses",
            "losses with a mean of exp(-loss) of at most 1",
            total,
            "pass the losses log(p / q) with their probabilities under p, not under q",
        )
        rest = 1 - total
        if rest <= _rounding(losses, probabilities, without):
            return cls(probabilities, tuple(without))
        return cls((*probabilities, 0.0), (*without, rest))


def _rounding(
    losses: Sequence[float], probabilities: Sequence[float], without: Sequence[float]
) -> float:
    """How far ``without`` may be from 1 in total where each number is off by its rounding alone."""
    return 2.0**-52 + math.fsum(
        q * (2 + abs(loss) + abs(math.log(p))) * 2.0**-52
        for loss, p, q in zip(losses, probabilities, without, strict=True)
        if q > 0
    )
