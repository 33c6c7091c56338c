"""Per-sample gradients of a lookup: rows added at indices, never spread over the whole table."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.factors import accumulable, at_least_rounding, row_norm_sq, weigh


@dataclass(frozen=True)
class Scatter:
    """``gradient[index[t]] += rows[t]``: ``index [B, T]``, ``rows [B, T, d]``, table ``[V, d]``."""

    index: Tensor
    rows: Tensor
    table_rows: int

    def norm_sq(self) -> Tensor:
        return at_least_rounding(self.raw_norm_sq(), self.sizes())

    def raw_norm_sq(self) -> Tensor:
        """Rows of equal index are added before they are squared: one place for each run of them."""
        size, positions = self.index.shape
        index, order = self.index.sort(1)
        is_new = (index[:, 1:] != index[:, :-1]).to(index.dtype)
        run = F.pad(is_new.cumsum(1), (min(1, positions), 0))  # [B, T]: 0, 1, ... in sorted order
        place = torch.empty_like(run).scatter_(1, order, run)  # [B, T]: the run of each position
        place += positions * torch.arange(size, device=place.device).unsqueeze(1)
        rows = accumulable(self.rows).flatten(0, 1)
        added = torch.zeros_like(rows).index_add_(0, place.flatten(), rows)
        return row_norm_sq(added.unflatten(0, (size, positions)))

    def sizes(self) -> Tensor:
        """See `at_least_rounding`."""
        rows = self.rows.flatten(0, 1)
        return row_norm_sq(rows).sqrt().view(self.rows.shape[:2]).sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        rows = weigh(self.rows, weights).flatten(0, 1)
        table = rows.new_zeros((self.table_rows, rows.shape[1]))
        return table.index_add_(0, self.index.flatten(), rows)

    def dense(self) -> Tensor:
        size, _, width = self.rows.shape
        rows = accumulable(self.rows)
        table = rows.new_zeros((size, self.table_rows, width))
        return table.scatter_add_(1, self.index.unsqueeze(2).expand_as(rows), rows)

    def take(self, where: slice) -> "Scatter":
        return Scatter(self.index[where], self.rows[where], self.table_rows)
