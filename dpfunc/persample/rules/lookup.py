"""Lookups in a table that is a parameter: F.embedding, and F.embedding_bag as sums of them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.scatter import Scatter
from dpfunc.persample.watching.capture import Rule, Tape


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
    if tape.name(weight) is None:
        return NotImplemented
    require(
        not scale_grad_by_freq or tape.samples.mapped,
        "batched",
        "an embedding without scale_grad_by_freq",
        "one with it",
        "how often an id occurs is counted over the whole batch, which mixes samples; leave it "
        "out, or write the loss of one sample",
        error=RuntimeError,
    )
    require(
        max_norm is None,
        "embedding",
        "a table that is left as it is",
        f"max_norm={max_norm}, which rescales in place the rows that the data name",
        "leave max_norm out; after each step, all rows may be rescaled, seen or not",
        error=RuntimeError,
    )
    output = F.embedding(input, table, padding_idx)

    def of_table(read: Tensor, grad: Tensor) -> Factored:
        index = read.reshape(read.shape[0], -1)  # [B, T]
        rows = grad.reshape(*index.shape, grad.shape[-1])
        if padding_idx is not None:  # the row at padding_idx is not trained
            rows = rows.masked_fill((index == padding_idx % len(table)).unsqueeze(2), 0.0)
        if scale_grad_by_freq:
            rows = rows / _times(index).unsqueeze(2)
        return Scatter(index, rows, len(table))

    return tape.tap(output, input, (weight, of_table))


def _times(index: Tensor) -> Tensor:
    """How often each entry is in its row of ``index [B, T]``."""
    rising = index.sort(1).values
    return torch.searchsorted(rising, index, right=True) - torch.searchsorted(rising, index)


def _embedding_bag(
    tape: Tape,
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Bags ``input [N, L]``, or ``[T]`` with offsets; the row at ``padding_idx`` is in no bag."""
    require(
        offsets is None or tape.samples.mapped,
        "batched",
        "bags of one length, ids [B, L]",
        "ragged ones, with offsets",
        "samples have to lie on one axis: pad the bags, with padding_idx, and leave offsets out",
        error=RuntimeError,
    )
    rows = _embedding(tape, input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    if rows is NotImplemented:
        return NotImplemented
    inside = torch.ones_like(input, dtype=torch.bool)
    if padding_idx is not None:
        inside = input != padding_idx % weight.shape[0]
    if offsets is not None:
        inside = inside & _in_bags(len(input), offsets[:-1] if include_last_offset else offsets)
    inside = inside.unsqueeze(-1)  # [N, L, 1], or [N, T, 1] for rows [T, d]
    if mode == "max":
        largest = rows.masked_fill(~inside, -torch.inf).amax(-2)
        return torch.where(inside.any(-2), largest, 0.0)
    if per_sample_weights is not None:
        rows = rows * tape.copies(per_sample_weights).unsqueeze(-1)
    total = torch.where(inside, rows, 0.0).sum(-2)
    return total / inside.sum(-2).clamp(min=1) if mode == "mean" else total


def _in_bags(positions: int, offsets: Tensor) -> Tensor:
    """``[N, T]``: whether position t is in bag n, which begins at ``offsets[n]``."""
    at = torch.arange(positions, device=offsets.device)
    after = torch.cat([offsets[1:], torch.full_like(offsets[:1], positions)])
    return (at >= offsets.unsqueeze(1)) & (at < after.unsqueeze(1))


LOOKUP_RULES = {F.embedding: Rule(_embedding), F.embedding_bag: Rule(_embedding_bag)}
