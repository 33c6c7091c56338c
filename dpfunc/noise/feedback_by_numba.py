"""`feedback.release` of a banded strategy on a CPU: two compiled passes around the noise.

Every number is a whole multiple of the fine grid that float64 holds exactly, so these are the
numbers of the torch operations, bit for bit. A pass reads each band once.
"""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpfunc.noise.kernels.by_numba import KINDS, in_threads
from dpfunc.noise.kernels.format import GROUP

_WHOLE = {torch.int32: np.int32, torch.int64: np.int64}


def settings_of(fine: float, coarse: float) -> Any:
    """What both passes get."""
    return np.array([1 / fine, coarse / fine, fine / coarse, fine])


def taken_back(
    sums: Tensor, earlier: list[Tensor], weights: tuple[float, ...], settings: Any
) -> Tensor:
    """``R mod coarse - sum_i weights[i] n_i``, float64 ``[n]``; ``earlier``: newest first."""
    wanted = torch.empty(sums.shape, dtype=torch.float64)
    whole = _WHOLE[earlier[0].dtype if earlier else torch.int32]
    places = [noise.data_ptr() for noise in earlier]
    fill = -len(places) % 4 if places else 0  # the kernel takes four bands at a time
    addresses = np.array(places + places[:1] * fill, dtype=np.int64)
    used = np.array([*weights[: len(earlier)], *([0.0] * fill)], dtype=np.float64)
    passes = _passes()

    def run(bounds: tuple[int, int]) -> None:
        passes.taken_back(
            *_items(bounds, sums),
            sums.data_ptr(),
            wanted.data_ptr(),
            addresses,
            used,
            settings,
            KINDS[sums.dtype],
            whole,
        )

    in_threads(run, 0, -(-sums.numel() // GROUP))
    return wanted


def told_apart(
    sums: Tensor, noisy: Tensor, kind: torch.dtype, most: float, settings: Any
) -> tuple[Tensor, Tensor, int]:
    """What is released, its noise as ``kind``, and how much of that is beyond ``most``."""
    released = torch.empty_like(sums)
    noise = torch.empty(sums.shape, dtype=kind)
    passes = _passes()

    def run(bounds: tuple[int, int]) -> int:
        beyond: int = passes.told_apart(
            *_items(bounds, sums),
            sums.data_ptr(),
            noisy.data_ptr(),
            released.data_ptr(),
            noise.data_ptr(),
            most,
            settings,
            KINDS[sums.dtype],
            _WHOLE[kind],
        )
        return beyond

    return released, noise, sum(in_threads(run, 0, -(-sums.numel() // GROUP)))


def _items(groups: tuple[int, int], sums: Tensor) -> tuple[int, int]:
    return groups[0] * GROUP, min(groups[1] * GROUP, sums.numel())


def _passes() -> Any:
    return import_module("dpfunc.noise.kernels.numba_bands")
