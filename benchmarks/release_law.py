"""Law L2 and correct rounding of whole releases, kernel by kernel, over many numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import dpfunc as dp
from dpfunc.noise.kernels.by_numba import release_by_numba
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.deciding import Pairs, decided
from dpfunc.noise.kernels.flat import Piece
from dpfunc.noise.kernels.format import GROUP, PAIRS, Streams, pair_words, streams

KERNELS: dict[str, Callable[..., None]] = {
    "torch operations": release_by_torch,
    "numba": release_by_numba,
}
SCALE, GRID = 100.0, 2.0**-6
CHUNK = 2**8 * GROUP


def law_of_releases(key: dp.Key, total: int) -> None:
    """Of each kernel: frequencies of the whole numbers, and what float64 alone decides."""
    for name, kernel in KERNELS.items():
        counts, differ = np.zeros(2001, dtype=np.int64), 0
        for start in range(0, total, CHUNK):
            keys = streams(dp.fold_in(key, "law of releases", start))
            row = torch.zeros(CHUNK)
            kernel([Piece(row, 0)], keys, SCALE, GRID)
            counts += np.bincount((row / GRID).long().clamp(-1000, 1000) + 1000, minlength=2001)
            sums = torch.linspace(-3, 3, CHUNK)
            exact = by_float64(sums.clone(), keys)
            kernel([Piece(sums, 0)], keys, SCALE, GRID)
            differ += int((sums != exact).sum())
        drawn = int(counts.sum())
        print(f"\na release by {name}, {drawn:,} numbers, of deviation {SCALE:g} in grids")
        print(f"  {differ} differ from what float64 decides, pair by pair")
        print(f"  whole numbers: chi-square p = {chi_square(counts):.3f}", flush=True)


def by_float64(sums: Tensor, keys: Streams) -> Tensor:
    """The release of whole groups without single precision: the corners of every cell."""
    groups = range(len(sums) // GROUP)
    radius, angle = (
        words.reshape(-1).numpy().astype(np.int64) % 2**32
        for words in pair_words(keys.words, groups, sums.device)
    )
    sides = sums.view(-1, 2, PAIRS).double() / GRID
    whole = sides.round()
    offsets = [(sides - whole)[:, side].reshape(-1).numpy() for side in (0, 1)]
    pairs = Pairs(np.arange(len(radius)), radius, angle, (offsets[0], offsets[1]))
    items = decided(keys, pairs, SCALE)
    noise = torch.stack([torch.from_numpy(item).view(-1, PAIRS) for item in items], 1)
    return ((whole + noise) * GRID).float().view(-1)


def chi_square(counts: Any) -> float:
    """The p-value of these frequencies of -1000 ... 1000; cells that are rare count as one."""
    whole = np.arange(-1000, 1001)
    chances = np.diff(stats.norm.cdf(np.append(whole - 0.5, 1000.5) / SCALE))
    expected, common = chances * counts.sum(), chances * counts.sum() > 20
    observed = np.append(counts[common], counts[~common].sum())
    kept = np.append(expected[common], counts.sum() - expected[common].sum())
    return float(stats.chisquare(observed, kept).pvalue)
