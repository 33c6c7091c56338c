"""Per-sample gradients of a lookup: rows added at indices, never spread over the whole table."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.persample.factors import accumulable, row_norm_sq, weigh


@dataclass(frozen=True)
class Scatter:
    """``gradient[index[t]] += rows[t]``: ``index [B, T]``, ``rows [B, T, d]``, table ``[V, d]``."""

    index: Tensor
    rows: Tensor
    table_rows: int

    def norm_sq(self) -> Tensor:
        """Rows of equal index are added before they are squared: sort them, add up each run."""
        order = self.index.argsort(1)
        index = self.index.gather(1, order)
        rows = accumulable(self.rows).gather(1, order.unsqueeze(2).expand_as(self.rows))
        starts = torch.ones_like(index[:, :1]), (index[:, 1:] != index[:, :-1]).to(index.dtype)
        run = torch.cat(starts, 1)[:, : index.shape[1]].cumsum(1) - 1  # [B, T]: which run
        added = torch.zeros_like(rows).scatter_add_(1, run.unsqueeze(2).expand_as(rows), rows)
        return row_norm_sq(added)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        rows = weigh(self.rows, weights).flatten(0, 1)
        table = rows.new_zeros((self.table_rows, rows.shape[1]))
        return table.index_add_(0, self.index.flatten(), rows)

    def dense(self) -> Tensor:
        size, _, width = self.rows.shape
        table = self.rows.new_zeros((size, self.table_rows, width))
        return table.scatter_add_(1, self.index.unsqueeze(2).expand_as(self.rows), self.rows)

    def take(self, where: slice) -> "Scatter":
        return Scatter(self.index[where], self.rows[where], self.table_rows)
