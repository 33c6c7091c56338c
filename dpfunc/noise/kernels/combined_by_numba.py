"""`combined.release_combined` by a compiled kernel, on a CPU: the same numbers, sooner.

What single precision may decide: with u = ``2**-24`` and stream i of reach ``|d_i| scale``, the
radius is off by ``u (2 / r + 5 r)``, a wave by 4 u, the reach and the product by u each, which is
``u |d_i| scale (2 / r_i + 11 r_i)`` and terms of u**2. Each of the p additions, and that of the
offset, rounds by u times at most ``sum |d_i| scale r_i + 1/2``. So all are within ``u sum |d_i|
scale (3 / r_i + (15 + p) r_i) + (p + 1) u``, with room for the float32 that computes the bound.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch

from dpfunc.noise.kernels import by_torch
from dpfunc.noise.kernels.by_numba import KINDS, in_threads
from dpfunc.noise.kernels.combined import SLACK, exactly, release_combined
from dpfunc.noise.kernels.deciding import ERROR
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import GROUP, PAIRS, Streams, pair_words, streams
from dpfunc.noise.kernels.listed import ROOM
from dpfunc.random.chacha import initial_words
from dpfunc.random.keys import key

_ULP = 2.0**-24
_ROOMY = 1 + 2.0**-10  # for what computing the bound in float32 loses


def release_combined_by_numba(
    pieces: list[Piece],
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
    grid: float,
) -> None:
    """Release the items of ``pieces``, all on the CPU, in place: see `release_combined`."""
    _release(_checked_kernel(), pieces, keys, weights, scale, grid)


def _release(
    kernel: Any,
    pieces: list[Piece],
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
    grid: float,
) -> None:
    states = np.stack(
        [np.array(initial_words(k.words.secret_bytes, bytes(12)), dtype=np.uint32) for k in keys]
    )
    count = len(keys)
    reaches = [scale * weight for weight in weights]
    small, large = by_torch.BOUND[0], by_torch.BOUND[1] + 1 + count
    numbers = np.array(
        [
            (reach, *(_ROOMY * _ULP * abs(reach) * part for part in (small, large)))
            for reach in reaches
        ],
        dtype=np.float32,
    )
    settings = np.array(
        [1 / grid, grid, by_torch.MOST_SQUARE, (count + 1) * _ULP, ERROR, SLACK, *reaches]
    )
    for piece in pieces:

        def run(bounds: tuple[int, int], piece: Piece = piece) -> Any:
            listed = np.empty((ROOM, kernel.LISTED), dtype=np.int64)
            found = kernel.release_groups(
                *bounds,
                states,
                piece.items.data_ptr(),
                piece.start,
                piece.items.numel(),
                numbers,
                settings,
                listed,
                KINDS[piece.items.dtype],
            )
            if found > ROOM:
                raise RuntimeError(
                    f"dpfunc: the kernel of the release left {found} items open where a few in a "
                    "million are expected; nothing is released. Uninstall numba, and report it."
                )
            return listed[:found]

        for listed in in_threads(run, piece.start // GROUP, -(-piece.stop // GROUP)):
            for pair, side in listed.tolist():
                _finish(pair, side, piece, keys, weights, scale, grid)


def _finish(
    pair: int,
    side: int,
    piece: Piece,
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
    grid: float,
) -> None:
    """One item that was listed, decided and put where it is."""
    group, place = divmod(pair, PAIRS)
    at = group * GROUP + side * PAIRS + place - piece.start
    if not 0 <= at < piece.items.numel():  # it only filled a group up
        return
    words = []
    for own in keys:
        both = pair_words(own.words, range(group, group + 1), torch.device("cpu"))
        words.append((int(both[0][0, place]) % 2**32, int(both[1][0, place]) % 2**32))
    value = float(piece.items[at]) / grid  # exact: the grid is a power of two
    whole = float(np.rint(value))
    offset = value - whole if abs(value - whole) <= 0.5 else 0.0
    found = exactly(keys, weights, words, pair, side, scale, offset)
    piece.items[at] = (whole + found + 0.0) * grid


@cache
def _checked_kernel() -> Any:
    """Known answers: a kernel is compiled where it runs, so it is tested there."""
    kernel = import_module("dpfunc.noise.kernels.numba_combined")
    keys, weights = [streams(key(i)) for i in range(3)], (1.0, -0.7, 0.25)
    for dtype in KINDS:
        ours, known = (torch.linspace(-3, 3, 2 * GROUP + 5, dtype=dtype) for _ in range(2))
        _release(kernel, [Piece(ours, 100)], keys, weights, 97.3, 2.0**-8)
        release_combined([Piece(known, 100)], keys, weights, 97.3, 2.0**-8)
        if not torch.equal(ours.view(torch.uint8), known.view(torch.uint8)):
            raise RuntimeError(
                f"dpfunc: the compiled release is wrong in {dtype} on this machine; uninstall "
                "numba, and report it."
            )
    return kernel
