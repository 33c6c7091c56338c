"""The pair of the exponential mechanism: all that is known is that its losses span at most eta.

A mechanism of range eta whose largest loss is t is dominated by two atoms, t with probability
``(e**eta - e**t) / (e**eta - 1)`` under P, and t - eta (Dong, Durfee and Rogers 2020,
arXiv:1909.13830). The worst t depends on epsilon: it is ``(eta + epsilon) / 2``. So

    delta(epsilon) = c (1 - exp((epsilon - eta) / 2))**2,   c = 1 / (1 - exp(-eta)),

for ``|epsilon| <= eta``, is the least curve above all of them. It is convex in exp(epsilon) and so
the curve of a pair (Zhu, Dong and Wang 2022, arXiv:2106.08567), which dominates every mechanism of
that range, adaptively chosen ones too. Its derivatives are the law of the loss:

    P(L > x) = c (1 - exp((x - eta) / 2)),   Q(L > x) = c (exp(-(x + eta) / 2) - exp(-eta)).
"""

import math
from dataclasses import dataclass

import numpy as np

from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells


@dataclass(frozen=True)
class BoundedRange:
    """The dominating pair of all mechanisms of range ``eta > 0``; the same in either order."""

    eta: float

    def nodes(self, count: int, tail: float) -> Array:  # noqa: ARG002  # no tail: losses are bounded
        """At equal distances, from where P has any mass: its density grows like exp(loss / 2)."""
        return np.linspace(max(-self.eta, self.eta - 90.0), self.eta, count)

    def cells(self, nodes: Array) -> Cells:
        """Differences of the two tails, as products that keep relative accuracy."""
        ends = np.clip(np.concatenate([[-math.inf], nodes, [math.inf]]), -self.eta, self.eta)
        low, high = ends[:-1], ends[1:]
        scale = -1 / math.expm1(-self.eta)
        rise = -np.expm1((low - high) / 2)
        p = scale * np.exp((high - self.eta) / 2) * rise
        r = scale * np.exp(-(low + self.eta) / 2) * rise
        relative = ULP * (8 + 2 * self.eta)
        # The difference of two ends is exact to an ulp of their size only.
        lost = scale * ULP * np.maximum(np.abs(low), np.abs(high)) / 2 * (high > low)
        p_error = p * relative + lost * np.exp((high - self.eta) / 2)
        r_error = r * relative + lost * np.exp(-(low + self.eta) / 2)
        return Cells(p, r, p_error, r_error, 0.0)
