"""A mode in which a loss runs in float64: its rounding switches next to no ReLU.

A model has numbers of its own beside its parameters and the batch: buffers, frozen weights, masks
that it makes on the way. They are float32 still, and many operations refuse a mixture.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.batches.nested import replace_tensors, tensors_in


def in_float64(values: Tensor) -> Tensor:
    """The same numbers; whole numbers stay as they are."""
    return values.to(torch.float64) if values.is_floating_point() else values


class Widened(TorchFunctionMode):
    """Inside, an operation on a float64 has all that it reads in float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(tensor.dtype == torch.float64 for tensor in tensors_in((args, kwargs))):
            written = 1 if _writes(getattr(func, "__name__", "")) else 0
            args = (*args[:written], *replace_tensors(args[written:], in_float64))
            kwargs = {
                name: value if name == "out" else replace_tensors(value, in_float64)
                for name, value in kwargs.items()
            }
        return func(*args, **kwargs)


def _writes(name: str) -> bool:
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name.startswith("__i") or name in ("__setitem__", "__set__")
