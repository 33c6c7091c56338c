"""Tensors in tuples, lists and dicts: arguments and results of operations, batches, states."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def _as_it_is(part: Any) -> Any:
    return part


def replace_tensors(
    value: Any, fn: Callable[[Tensor], Any], *, other: Callable[[Any], Any] = _as_it_is
) -> Any:
    """``value`` with ``fn`` applied to each tensor in it, and ``other`` to each other leaf.

    A size is a leaf: it holds no tensors, and can hold nothing but whole numbers.
    """
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, Mapping):
        return {name: replace_tensors(part, fn, other=other) for name, part in value.items()}
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        parts = [replace_tensors(part, fn, other=other) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return other(value)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in ``value``, in the order in which `replace_tensors` meets them."""
    found: list[Tensor] = []
    replace_tensors(value, found.append)
    return found
