"""The calls of a module's layers, recorded, and the first of them that mixes samples."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpfunc.persample.batches.nested import tensors_in
from dpfunc.persample.whole_batch.places import Place, to_rows


class Call(NamedTuple):
    """One call of the layer at ``path``, with copies of the tensors that it took and returned."""

    path: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Recorder:
    """``calls``: those that have ended, in that order. ``running``: those that have not."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.running: list[tuple[str, list[Tensor]]] = []

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator["Recorder"]:
        """Inside, every call of a layer of ``module`` is recorded."""
        handles: list[Any] = []
        try:
            for path, layer in module.named_modules():
                if not isinstance(layer, torch.jit.ScriptModule):  # these take no hooks
                    handles += self._hooks(path, layer)
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, path: str, layer: nn.Module) -> list[Any]:
        def begins(caller: nn.Module, args: Any, kwargs: Any) -> None:
            self.running.append((path, copies((args, kwargs))))

        def ends(caller: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            self.calls.append(Call(*self.running.pop(), copies(result)))

        return [
            layer.register_forward_pre_hook(begins, with_kwargs=True),
            layer.register_forward_hook(ends, with_kwargs=True),
        ]


def copies(value: Any) -> list[Tensor]:
    """Copies of the tensors in ``value``, as they are now."""
    return [tensor.detach().clone() for tensor in tensors_in(value)]


def first_that_mixes(
    before: Sequence[Call], after: Sequence[Call], *, sample: int, size: int
) -> str | None:
    """The path of the first layer that lets ``sample`` feel a change of another one.

    That is a layer which got for ``sample`` what it had got ``before``, and returned something
    else. A layer comes after those that it calls, so it is found for what its own code does; an
    empty path is the module itself. None where it happens outside of the module.
    """
    for old, new in zip(before, after, strict=False):
        if old.path != new.path:
            return None
        if moved_rows(old.inputs, new.inputs, size)[sample]:
            continue
        if moved_rows(old.outputs, new.outputs, size)[sample]:
            return old.path
    return None


def moved_rows(before: Sequence[Tensor], after: Sequence[Tensor], size: int) -> Tensor:
    """By sample, whether its part of the tensors has changed by more than rounding; bool ``[B]``.

    Where a tensor has samples is seen by division: ``size`` divides the length of no other axis. A
    tensor without samples is a part of each. One that has got another shape has changed for all.
    """
    moved = torch.zeros(size, dtype=torch.bool)
    if len(before) != len(after):
        return ~moved
    for old, new in zip(before, after, strict=True):
        moved |= _moved(old, new, size).cpu()
    return moved


def place_of(values: Tensor, size: int) -> Place | None:
    """The axis of ``values`` that carries samples, where there is one."""
    for axis, length in enumerate(values.shape):
        if length > 0 and length % size == 0:
            return Place(axis, length // size)
    return None


def _moved(old: Tensor, new: Tensor, size: int) -> Tensor:
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return torch.ones(size, dtype=torch.bool)
    if old.numel() == 0:
        return torch.zeros(size, dtype=torch.bool)
    before, after = _rows(old, size), _rows(new, size)
    equal = (before == after) | (before.isnan() & after.isnan())
    apart = (before - after).abs().nan_to_num(nan=torch.inf).masked_fill(equal, 0.0)
    largest = before.abs().nan_to_num(nan=0.0, posinf=0.0).amax(1)
    moved: Tensor = apart.amax(1) > _tolerance(old.dtype) * largest
    return moved


def _rows(values: Tensor, size: int) -> Tensor:
    """``[B, all numbers of a sample]``, in float64."""
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.is_complex():
        values = torch.view_as_real(values)
    return to_rows(values, place_of(values, size), size).reshape(size, -1).double()


def _tolerance(dtype: torch.dtype) -> float:
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    # With the same shapes, rounding is the same; but shapes inside may depend on the data.
    return math.pow(torch.finfo(dtype).eps, 2 / 3)
