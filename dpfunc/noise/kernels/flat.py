"""Tensors as one row of items, in the order of their names, each where it is in memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.noise.kernels.format import GROUP, Streams


def starts_of(sizes: Mapping[str, int]) -> dict[str, int]:
    """Where each name begins in the row of all items: names in order, without gaps.

    >>> starts_of({"w": 10, "b": 3})
    {'b': 0, 'w': 3}
    """
    starts, end = {}, 0
    for name in sorted(sizes):
        starts[name], end = end, end + sizes[name]
    return starts


DTYPES = (torch.float32, torch.float64)
"""Of what is released: sums of lower precision are copied to float32."""


@dataclass(frozen=True)
class Piece:
    """A contiguous tensor ``[n]`` of floats, whose first item is item ``start`` of the row."""

    items: Tensor
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.items.numel()

    def part(self, first: int, last: int) -> Tensor:
        """Those of its items that are items ``first`` to ``last`` of the row: a view."""
        return self.items[max(0, first - self.start) : max(0, last - self.start)]


Release = Callable[[list[Piece], Streams, float, float], None]
"""``release(pieces, keys, scale, grid)``: releases items that are on one device, in place."""


def runs_of_groups(pieces: list[Piece], step: int) -> Iterator[tuple[range, list[Piece]]]:
    """``step`` groups at a time, where there are items: the groups, and the pieces in them."""
    first, last = min(p.start for p in pieces), max(p.stop for p in pieces)
    groups = range(first // GROUP, -(-last // GROUP))
    for begin in groups[::step]:
        run = range(begin, min(begin + step, groups.stop))
        here = [p for p in pieces if p.start < run.stop * GROUP and p.stop > run.start * GROUP]
        if here:
            yield run, here


def read(pieces: list[Piece], first: int, last: int) -> Tensor:
    """Items ``first`` to ``last`` of the row, copied; zero where no piece has them."""
    widest = max((piece.items.dtype for piece in pieces), key=lambda dtype: dtype.itemsize)
    row = torch.zeros(last - first, dtype=widest, device=pieces[0].items.device)
    for piece in pieces:
        part = piece.part(first, last)
        at = max(0, piece.start - first)
        row[at : at + part.numel()] = part
    return row


def write(pieces: list[Piece], first: int, row: Tensor) -> None:
    """Put ``row`` where items ``first``, ``first + 1``, ... of the pieces are."""
    for piece in pieces:
        part = piece.part(first, first + row.numel())
        at = max(0, piece.start - first)
        part.copy_(row[at : at + part.numel()])
