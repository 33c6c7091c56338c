"""What every engine works on: a dominating pair of distributions, seen through its privacy loss.

P is the output with the neighbouring data set on one side, Q on the other, and ``L = log dP/dQ``
the privacy loss. A mechanism is ``(epsilon, delta)``-DP for that order of the two as soon as
``delta >= E_P[(1 - exp(epsilon - L))_+]``, and the loss of a composition is the sum of independent
losses (Zhu, Dong and Wang 2022, arXiv:2106.08567, theorems 10 and 27). So an engine needs no more
than how much P and how much Q lies between two losses.

To add a mechanism, write a class with the two methods of `Pair`, and a case in
`domination/composition.py`.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ULP = float(np.finfo(np.float64).eps)


def log_rounding(logarithm: float) -> float:
    """What a logarithm of a probability may be off by, taken once and turned back once."""
    return 4 * ULP * (1 + abs(logarithm)) if logarithm > -math.inf else 0.0


class OutOfReachError(Exception):
    """An engine cannot prove an answer at a reasonable cost: another one has to serve."""


class Cells(NamedTuple):
    """The outcomes sorted into cells by their loss; with n nodes there are n + 1 cells.

    Cell 0 holds the losses up to ``nodes[0]`` (minus infinity included), cell j those in
    ``(nodes[j-1], nodes[j]]``, cell n those above the last node (infinity included). A loss that is
    an atom belongs on a node: there every engine keeps it exactly.
    """

    p: Array  # [n + 1] probability of each cell under P
    r: Array  # [n + 1] the same under Q
    p_error: Array  # [n + 1] a bound on the absolute rounding error of p
    r_error: Array  # [n + 1] a bound on the absolute rounding error of r
    shift: float  # how far rounding may have put a loss beyond the nodes of its cell


class Pair(Protocol):
    """An ordered dominating pair: frozen, hashable, equal when the distributions are.

    Every release with an equal pair is counted together; the two orders of a mechanism (removing a
    record, adding one) are two pairs.
    """

    def nodes(self, count: int, tail: float) -> Array:
        """About ``count`` finite losses, strictly increasing, close where much mass is.

        At most a probability ``tail`` under P lies above the last. Where all losses are atoms,
        the nodes are just these, whatever ``count`` says.
        """

    def __hash__(self) -> int:
        """Of the distributions: what is known of a pair is kept."""

    def cells(self, nodes: Array) -> Cells:
        """The mass of P and Q between the given strictly increasing finite losses."""
