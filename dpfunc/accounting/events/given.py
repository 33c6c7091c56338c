"""A release that is given by its outcomes: how likely each is with the record, and without it."""

import math
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
