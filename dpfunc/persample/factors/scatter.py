"""Per-sample gradients of a lookup: rows added at indices, never spread over the whole table."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.factors.cost import form_in_slices, slices_of
from dpfunc.persample.factors.forms import (
    accumulable,
    at_least_rounding,
    require_one_each,
    row_norm_sq,
    weigh,
)


@dataclass(frozen=True)
class Scatter:
    """``gradient[index[t]] += rows[t]``: ``index [B, T]``, ``rows [B, T, d]``, table ``[V, d]``."""

    index: Tensor
    rows: Tensor
    table_rows: int

    def norm_sq(self) -> Tensor:
        return at_least_rounding(self.raw_norm_sq(), self.sizes())

    def raw_norm_sq(self) -> Tensor:
        """Rows of equal index are added before they are squared: a bag for each index of a sample.

        A sample has as many bags as positions, so that shapes do not depend on the data; what is
        left of them is empty. Some samples at a time: the added rows take as much as the rows.
        """
        numbers = self.rows.shape[1:].numel()
        return form_in_slices(lambda s: self.take(s)._norm_sq_at_once(), self.index, numbers)

    def _norm_sq_at_once(self) -> Tensor:
        size, positions = self.index.shape
        index, order = _sorted(self.index.long())  # 32 bits do not hold the keys of a large table
        first = torch.ones_like(index, dtype=torch.bool)
        first[:, 1:] = index[:, 1:] != index[:, :-1]
        # The n-th bag begins where the n-th new index is; nobody reads the column of the others.
        bag = torch.where(first, first.cumsum(1) - 1, positions)
        place = torch.arange(positions, device=index.device).expand_as(index)
        begins = index.new_full((size, positions + 1), positions).scatter_(1, bag, place)
        of_sample = positions * torch.arange(size, device=index.device).unsqueeze(1)
        added = F.embedding_bag(
            (order + of_sample).flatten(),
            accumulable(self.rows).flatten(0, 1),
            (begins[:, :-1] + of_sample).flatten(),
            mode="sum",
        )
        return row_norm_sq(added.unflatten(0, (size, positions)))

    def sizes(self) -> Tensor:
        """See `at_least_rounding`."""
        rows = self.rows.flatten(0, 1)
        return row_norm_sq(rows).sqrt().view(self.rows.shape[:2]).sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        require_one_each(self.rows, weights)
        _, positions, width = self.rows.shape
        # Of none of the weighed rows: of their dtype, and mapped where the weights are.
        table = weigh(self.rows[:0], weights[:0]).new_zeros((self.table_rows, width))
        for where in slices_of(self.index, positions * width):
            rows = weigh(self.rows[where], weights[where]).flatten(0, 1)
            table.index_add_(0, self.index[where].flatten(), rows)
        return table

    def dense(self) -> Tensor:
        size, _, width = self.rows.shape
        rows = accumulable(self.rows)
        table = rows.new_zeros((size, self.table_rows, width))
        return table.scatter_add_(1, self.index.unsqueeze(2).expand_as(rows), rows)

    def take(self, where: slice) -> "Scatter":
        return Scatter(self.index[where], self.rows[where], self.table_rows)


def _sorted(index: Tensor) -> tuple[Tensor, Tensor]:
    """``index [B, T]`` in order along T, and the position that each came from."""
    positions = index.shape[1]
    if index.device.type != "cpu" or not have_numbers(index):
        values, order = index.sort(1)
        return values, order
    # NumPy sorts plain numbers with vector instructions, ten times as fast as torch does pairs.
    keys = index * positions + torch.arange(positions)
    keys.numpy().sort(1)
    values = keys // max(1, positions)
    return values, keys - values * positions
