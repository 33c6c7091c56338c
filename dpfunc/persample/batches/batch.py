"""A batch: a tensor, or a tuple, list or dict of batches, whose tensors share axis 0 (samples)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.batches.nested import replace_tensors


def map_tensors(fn: Callable[[Tensor], Any], batch: Any) -> Any:
    """``batch`` with ``fn`` applied to each tensor in it. TypeError for any other leaf."""
    return replace_tensors(batch, fn, other=_refuse)


def _refuse(leaf: object) -> None:
    require(
        False,
        "batch",
        "tensors in tuples, lists or dicts",
        type(leaf).__name__,
        "turn it into a tensor, or close over it in loss_fn if it is no data",
        error=TypeError,
    )


def _tensors(batch: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(found.append, batch)
    return found


def batch_size(batch: Any) -> int:
    """The common length of axis 0. ValueError where tensors have none or differ."""
    shapes = [tuple(tensor.shape) for tensor in _tensors(batch)]
    require(
        () not in shapes and len({shape[0] for shape in shapes}) == 1,
        "batch",
        "at least one tensor, all with the same number of samples on axis 0",
        shapes,
        "put samples on axis 0 of every tensor and close over constants in loss_fn",
    )
    return shapes[0][0]


def batch_device(batch: Any) -> torch.device:
    """The device of the first tensor."""
    return _tensors(batch)[0].device


def take(batch: Any, where: slice | int) -> Any:
    """The samples in ``where``: a smaller batch, or for an int one sample without its axis."""
    return map_tensors(lambda tensor: tensor[where], batch)


def as_args(batch: Any) -> Sequence[Any]:
    """The arguments after ``params`` of a loss: a tuple or list is spread, all else is one."""
    return batch if isinstance(batch, tuple | list) else (batch,)


def slices(size: int, microbatch_size: int | None) -> list[slice]:
    """The microbatches of a batch, in order; one (perhaps empty) slice where there is no limit."""
    step = microbatch_size or max(size, 1)
    return [slice(start, start + step) for start in range(0, size, step)] or [slice(0, 0)]
