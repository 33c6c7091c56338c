"""A parameter used several times: its gradients add up before the norm is taken.

Adding the norms of the uses instead is the classic mistake (tied embeddings, recurrent weights).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from dpfunc.persample.factors.cost import form_in_slices
from dpfunc.persample.factors.forms import (
    Dense,
    Factored,
    accumulable,
    at_least_rounding,
    row_norm_sq,
)
from dpfunc.persample.factors.outer import Outer
from dpfunc.persample.factors.scatter import Scatter


def combined(parts: Sequence[Factored]) -> Factored:
    """One form for the sum of ``parts``, all of one parameter."""
    if len(parts) == 1:
        return parts[0]
    merged = _merge_alike(parts)
    return merged[0] if len(merged) == 1 else Sum(tuple(merged))


def _merge_alike(parts: Sequence[Factored]) -> list[Factored]:
    """Forms that add up in their own kind are joined: along positions, or number by number."""
    dense = [part for part in parts if isinstance(part, Dense)]
    outers = [part for part in parts if isinstance(part, Outer)]
    scatters = [part for part in parts if isinstance(part, Scatter)]
    merged: list[Factored] = [p for p in parts if not isinstance(p, Dense | Outer | Scatter)]
    if dense:
        merged.append(Dense(reduce(torch.add, (part.values for part in dense))))
    if outers:
        left = torch.cat([part.left for part in outers], 1)
        right = torch.cat([part.right for part in outers], 1)
        merged.append(Outer(left, right))
    if scatters:
        index = torch.cat([part.index for part in scatters], 1)
        rows = torch.cat([part.rows for part in scatters], 1)
        merged.append(Scatter(index, rows, scatters[0].table_rows))
    return merged


@dataclass(frozen=True)
class Sum:
    """The sum of gradients in different forms."""

    parts: tuple[Factored, ...]

    def norm_sq(self) -> Tensor:
        match self.parts:
            case (Outer() as outer, Scatter() as scatter):
                return _norm_sq_of_outer_and_scatter(outer, scatter)
        sizes, (_, *shape) = self.sizes(), self.parts[0].take(slice(0, 1)).dense().shape
        norm_sq = form_in_slices(
            lambda where: row_norm_sq(self.take(where).dense()), sizes, math.prod(shape)
        )
        return at_least_rounding(norm_sq, sizes)

    def sizes(self) -> Tensor:
        return reduce(torch.add, (part.sizes() for part in self.parts))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return reduce(torch.add, (part.weighted_sum(weights) for part in self.parts))

    def dense(self) -> Tensor:
        return reduce(torch.add, (part.dense() for part in self.parts))

    def take(self, where: slice) -> "Sum":
        return Sum(tuple(part.take(where) for part in self.parts))


def _norm_sq_of_outer_and_scatter(outer: Outer, scatter: Scatter) -> Tensor:
    """A table that serves as input and output embedding, without forming its gradient.

    The inner product of the two uses is ``sum_{t,s} left[t, index[s]] <right[t], rows[s]>``.
    """
    index = scatter.index.unsqueeze(1).expand(-1, outer.left.shape[1], -1)  # [B, T, S]
    picked = accumulable(outer.left.gather(2, index))
    crossed = picked.mul_(accumulable(outer.right) @ accumulable(scatter.rows).mT).sum((1, 2))
    of_outer, sizes = outer.norm_sq_and_sizes()
    norm_sq = (of_outer + scatter.raw_norm_sq() + 2 * crossed).clamp_(min=0.0)
    return at_least_rounding(norm_sq, sizes + scatter.sizes())
