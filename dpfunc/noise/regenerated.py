"""Noise ``sum_i d_i v_{t-i}`` whose normals are drawn again: correctly rounded, without memory.

``round(S_t + sum_{i < p} d_i v_{t-i})`` with real normals v of earlier steps and of this one, all
in one rounding: a function of ``S + D v = D (C S + v)``, C the inverse of the banded D, whatever
floats S consists of. So it is post-processing of the Gaussian mechanism on ``C S``, exactly.
"""

from functools import lru_cache

from dpfunc.noise.kernels.by_numba import available
from dpfunc.noise.kernels.combined import release_combined
from dpfunc.noise.kernels.combined_by_numba import release_combined_by_numba
from dpfunc.noise.kernels.flat import Piece, starts_of
from dpfunc.noise.kernels.format import streams
from dpfunc.noise.lattice import spacing, widened
from dpfunc.random.keys import Key, fold_in
from dpfunc.strategies.records import InverseToeplitz
from dpfunc.strategies.sensitivity import column_norm
from dpfunc.types import Tensors


def release_(
    values: Tensors,
    key: Key,
    step: int,
    strategy: InverseToeplitz,
    *,
    noise_multiplier: float,
    bound: float,
) -> Tensors:
    """Release in the memory of ``values``, contiguous float32 or float64, nobody else's.

    ``key``: of the normals of all steps; those of step s are from ``fold_in(key, s)``. There are
    none before step 0.
    """
    deviation = deviation_of(strategy, noise_multiplier, bound)
    grid = spacing(deviation)
    terms = [
        (streams(fold_in(key, step - i)), weight)
        for i, weight in enumerate(strategy.coefficients[: step + 1])
        if weight != 0
    ]
    starts = starts_of({name: value.numel() for name, value in values.items()})
    pieces = [Piece(v.view(-1), starts[n]) for n, v in values.items() if v.numel() > 0]
    for device in {piece.items.device for piece in pieces}:
        here = [piece for piece in pieces if piece.items.device == device]
        keys, weights = zip(*terms, strict=True)
        kernel = release_combined
        if device.type == "cpu" and available():
            kernel = release_combined_by_numba
        kernel(here, keys, weights, deviation / grid, grid)
    return values


def deviation_of(strategy: InverseToeplitz, noise_multiplier: float, bound: float) -> float:
    """Of the normals."""
    return noise_multiplier * _norm(strategy) * widened(bound)


@lru_cache(maxsize=16)
def _norm(strategy: InverseToeplitz) -> float:
    return column_norm(strategy)
