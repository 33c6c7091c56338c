"""Pairs that a kernel leaves open, listed in a table: decided, and put where their items are."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from dpfunc.noise.kernels.deciding import Pairs, by_further_bits
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import GROUP, PAIRS, Streams

COLUMNS = 7
"""Of a row: the pair, its two words, its two offsets, and the whole numbers that these were taken
from. Float64 holds all of them exactly."""

ROOM = 2**12  # rows that a kernel may list; a few in a million are


def require_room(count: int, room: int, package: str) -> None:
    """RuntimeError where more pairs are open than a table has room for."""
    if count > room:
        raise RuntimeError(
            f"dpfunc: the kernel of the release left {count} pairs open where a few in a million "
            f"are expected; nothing is released. Uninstall {package}, and report it."
        )


def finish(
    rows: NDArray[np.float64], pieces: list[Piece], keys: Streams, scale: float, grid: float
) -> None:
    """Decide the pairs of ``rows`` by further bits; ``pieces`` in the order of their starts."""
    starts = [piece.start for piece in pieces]
    for row in rows:
        words = row[:3].astype(np.int64)
        pair = Pairs(words[:1], words[1:2], words[2:3], (row[3:4], row[4:5]))
        group, place = divmod(int(words[0]), PAIRS)
        for side, whole in enumerate(by_further_bits(keys, pair, scale)):
            item = group * GROUP + side * PAIRS + place
            at = bisect_right(starts, item) - 1
            if at >= 0 and item < pieces[at].stop:
                noisy = (float(row[5 + side]) + whole + 0.0) * grid
                pieces[at].items[item - pieces[at].start] = noisy
