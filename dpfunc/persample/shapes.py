"""Tensors that have a shape, a dtype and a device, and no numbers: runs that compute nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from dpfunc.persample.nested import tensors_in


@contextmanager
def shapes_alone() -> Iterator[FakeTensorMode]:
    """Inside, operations on tensors made by the mode compute their shapes and nothing else."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def have_numbers(value: Any) -> bool:
    """Whether no tensor in ``value`` is a shape alone."""
    return not any(isinstance(tensor, FakeTensor) for tensor in tensors_in(value))
