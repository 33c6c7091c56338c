"""Packed sequences inside the loss of one sample: its own N sequences, of lengths known beforehand.

A packed sequence holds, step by step, the entries of the sequences that are long enough. Here the
lengths are the same for all samples: what differs from sample to sample differs in its numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.watching.capture import Rule, Tape

_Layers = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]
"""From ``x [T, n, I]`` and states ``[L, n, H]`` to the outputs and the last states."""


def run_packed(
    layers: _Layers, data: Tensor, batch_sizes: Tensor, states: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``layers`` on sequences of equal length at a time, which lie together: longest first."""
    places = _places(batch_sizes.tolist())
    parts, starts = [], []
    first = 0
    while first < places.shape[1]:
        length = int((places[:, first] >= 0).sum())
        after = int((places[length - 1] >= 0).sum())
        where = places[:length, first:after]
        x = data[where.flatten().to(data.device)].unflatten(0, where.shape)
        parts.append(layers(x, [state[:, first:after] for state in states]))
        starts.append(where.flatten())
        first = after
    back = torch.cat(starts).argsort().to(data.device)
    output = torch.cat([output.flatten(0, 1) for output, *_ in parts])[back]
    last = (torch.cat(ends, 1) for ends in zip(*(part[1:] for part in parts), strict=True))
    return output, *last


def require_one_sample(tape: Tape) -> None:
    """In a packed batch the samples lie step by step, each batch in another way."""
    require(
        tape.samples.mapped,
        "batched",
        "to tell the samples apart",
        "packed sequences",
        "pad and mask the loss, or write the loss of one sample (no batched)",
        error=NotImplementedError,
    )


def _places(batch_sizes: Sequence[int]) -> Tensor:
    """Where step t of sequence n is in the data, ``[T, N]``; -1 where it has ended."""
    places = torch.full((len(batch_sizes), batch_sizes[0]), -1)
    start = 0
    for t, size in enumerate(batch_sizes):
        places[t, :size] = torch.arange(start, start + size)
        start += size
    return places


def _pack(tape: Tape, input: Tensor, lengths: Tensor, batch_first: bool = False) -> Any:
    if not tape.samples.mapped:
        return NotImplemented
    _require_constant("pack_padded_sequence", lengths)
    steps_first = input.transpose(0, 1) if batch_first else input
    each = lengths.tolist()
    require(
        each == sorted(each, reverse=True) and min(each) > 0 and max(each) <= len(steps_first),
        "pack_padded_sequence",
        f"lengths between 1 and {len(steps_first)}, the longest first",
        each,
        "pass enforce_sorted=False to have them sorted",
    )
    batch_sizes = torch.tensor([sum(t < length for length in each) for t in range(each[0])])
    places = _places(batch_sizes.tolist())
    steps, sequences = (places >= 0).nonzero(as_tuple=True)
    device = input.device
    return steps_first[steps.to(device), sequences.to(device)], batch_sizes


def _pad(
    tape: Tape,
    data: Tensor,
    batch_sizes: Tensor,
    batch_first: bool,
    padding_value: float,
    total_length: int | None = -1,
) -> Any:
    if not tape.samples.mapped:
        return NotImplemented
    places = _places(batch_sizes.tolist())
    lengths = (places >= 0).sum(0)
    missing = max(total_length or -1, len(places)) - len(places)
    places = torch.cat([places, places.new_full((missing, places.shape[1]), -1)])
    padded = torch.cat([data, torch.full_like(data[:1], padding_value)])[places.to(data.device)]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def _require_constant(where: str, lengths: Tensor) -> None:
    require(
        torch.func.debug_unwrap(lengths, recurse=False) is lengths,
        where,
        "lengths that are the same for all samples",
        "lengths that are part of the batch",
        "pad, and mask the loss",
        error=NotImplementedError,
    )


PACKING_RULES = {
    torch._VF._pack_padded_sequence: Rule(_pack, always=True),
    torch._VF._pad_packed_sequence: Rule(_pad, always=True),
}
