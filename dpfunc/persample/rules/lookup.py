"""Lookups in a table that is a parameter: F.embedding."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.capture import Rule, Tape
from dpfunc.persample.factors import Factored
from dpfunc.persample.scatter import Scatter


def _embedding(
    tape: Tape,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    table = weight.detach()
    if tape.name(weight) is None or max_norm is not None or scale_grad_by_freq:
        return NotImplemented
    output = F.embedding(input, table, padding_idx)

    def of_table(read: Tensor, grad: Tensor) -> Factored:
        index = read.reshape(read.shape[0], -1)  # [B, T]
        rows = grad.reshape(*index.shape, grad.shape[-1])
        if padding_idx is not None:  # the row at padding_idx is not trained
            rows = rows.masked_fill((index == padding_idx % len(table)).unsqueeze(2), 0.0)
        return Scatter(index, rows, len(table))

    return tape.tap(output, input, (weight, of_table))


LOOKUP_RULES = {F.embedding: Rule(_embedding)}
