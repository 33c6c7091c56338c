"""Tensors that have a shape, a dtype and a device, and no numbers: runs that compute nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from dpfunc.persample.batches.nested import tensors_in


@contextmanager
def shapes_alone() -> Iterator[FakeTensorMode]:
    """Inside, operations on tensors made by the mode compute their shapes and nothing else."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def have_numbers(value: Any) -> bool:
    """Whether Python can read the numbers of all tensors in ``value``.

    It can't where a tensor is a shape alone, or stands for those of other calls: under vmap, and
    while torch.compile reads the code.
    """
    return not torch.compiler.is_compiling() and not any(
        isinstance(tensor, FakeTensor) or is_functorch_wrapped_tensor(tensor)
        for tensor in tensors_in(value)
    )
