"""The weights of losses above epsilon, and their transform in closed form.

Delta counts a loss that is u above epsilon with ``w(u) = exp(-c u) (1 - exp(-u))`` times its tilted
probability. On a lattice of step h that is a difference of two geometric series.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.engines.lattice.grid import Grid
from dpfunc.accounting.pairs.privacy_loss import Array

Indices = NDArray[np.int64]
Complex = NDArray[np.complex128]


class Kernel(NamedTuple):
    """How large the transform of w is, before it is cut off; and how large its poles make it."""

    smooth: Array  # [k]
    near: Array  # [k] |1 - exp(-c h + i theta)|
    far: Array  # [k] the same with c + 1
    share: Array  # [k] the weight of a frequency in a sum over half of them


def kernel(grid: Grid) -> Kernel:
    """The sizes of the transform of w at all frequencies of the grid."""
    n, h, c = grid.points, grid.step, grid.c
    half = np.sin(np.arange(n // 2 + 1) * (math.pi / n))
    square = 4 * half * half
    near, far = (np.sqrt(math.expm1(-b * h) ** 2 + math.exp(-b * h) * square) for b in (c, c + 1))
    smooth = -math.exp(-c * h) * math.expm1(-h) / (near * far)
    share = np.full(len(half), 2.0 / n)
    share[0] /= 2
    if n % 2 == 0:
        share[-1] /= 2
    return Kernel(smooth, near, far, share)


def transform_of_kernel(grid: Grid, reach: int, ends: tuple[float, float], kept: int) -> Complex:
    """``sum over i < reach of exp(i theta) w(i h)``, in closed form, at the first frequencies."""
    n, h, c = grid.points, grid.step, grid.c
    half = turned(kept, np.ones(1, dtype=np.int64), 2 * n)[0]  # of small angles the sine is exact
    less_one, sine = 2 * half.imag * half.imag, 2 * half.imag * half.real
    near, far = (
        _complex(math.exp(-b * h) * less_one - math.expm1(-b * h), -math.exp(-b * h) * sine)
        for b in (c, c + 1)
    )
    scale = -math.exp(-c * h) * math.expm1(-h)
    last = turned(kept, np.array([reach]), n)[0]
    found = _complex(scale * (1 - less_one), scale * sine) - last * (ends[0] * far - ends[1] * near)
    return np.asarray(found / (near * far))


def _complex(real: Array, imaginary: Array) -> Complex:
    both = np.empty(len(real), dtype=np.complex128)
    both.real, both.imag = real, imaginary
    return both


def turned(count: int, places: Indices, n: int) -> Complex:
    """``exp(2 pi i frequency place / n)`` at the first ``count`` frequencies, for every place.

    Products of integers are reduced as such. Each factor comes from a table of a multiple of
    the width of another, and one below that width.
    """
    width = math.isqrt(count) + 1

    def table(multiples: Indices) -> Complex:
        product = np.multiply.outer(np.mod(places, n), multiples)
        angle = ((product + n // 2) % n - n // 2) * (2 * math.pi / n)
        return np.asarray(np.cos(angle) + 1j * np.sin(angle))

    coarse, fine = table(np.arange(width) * width), table(np.arange(width))
    both = coarse[:, :, None] * fine[:, None, :]
    return np.asarray(both.reshape(len(places), -1)[:, :count])
