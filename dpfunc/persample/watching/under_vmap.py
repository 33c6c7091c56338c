"""Running part of a loss on the whole batch at once, in the middle of vmap.

vmap has no rule for some operations (recurrent layers, fused attention) and would refuse them or
run them sample by sample. Written for tensors with the batch axis in front, they need none.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import VmapInterpreter, retrieve_current_functorch_interpreter

from dpfunc.checks import require

_TRANSFORMS = (TransformType.Vmap, TransformType.Grad, TransformType.Jvp)

Run = Callable[..., tuple[Tensor, ...]]


def on_whole_batch(run: Run, probe: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """``run(randomness, probe, *inputs)`` on inputs ``[B, ...]``; its results are mapped again.

    ``randomness`` is that of the vmap. ``probe`` is mapped, so that this works even where no input
    is; ``run`` gets it as it is below the level of vmap. Autograd records what ``run`` does.
    """
    vmap = _only_transform(probe)
    if vmap is None:
        results: tuple[Tensor, ...] = _WholeBatch.apply(  # type: ignore[no-untyped-call]  # torch does not annotate it
            run, probe, *inputs
        )
        return results
    # In half the time of a Function, which counts for small layers.
    functorch = torch._C._functorch
    size = vmap.batch_size()
    whole = [
        part
        if part is None
        else batch_first(functorch.get_unwrapped(part), functorch.maybe_get_bdim(part), size)
        if is_mapped(part)
        else batch_first(part, None, size)
        for part in inputs
    ]
    with vmap.lower():
        results = run(vmap.randomness(), functorch.get_unwrapped(probe), *whole)
    return tuple(functorch._add_batch_dim(result, 0, 1) for result in results)


def _only_transform(probe: Tensor) -> VmapInterpreter | None:
    """The vmap that maps ``probe``, where no other transform is around."""
    functorch = torch._C._functorch
    if not functorch.maybe_current_level() == functorch.maybe_get_level(probe) == 1:
        return None
    vmap = retrieve_current_functorch_interpreter()
    return vmap if isinstance(vmap, VmapInterpreter) else None


def transforms_above(level: int) -> int:
    """How many transforms of `torch.func` are around, beyond the first ``level``."""
    return max(0, torch._C._functorch.maybe_current_level() or 0) - level


def require_outside(subject: str, remedy: str) -> None:
    """Raise where vmap or a derivative of `torch.func` is around: ``subject`` is not their kind."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    around = [each.key().name.lower() for each in stack if each.key() in _TRANSFORMS]
    require(
        not around,
        subject,
        "to be called outside of the transforms of torch.func",
        " and ".join(around),
        remedy,
        error=RuntimeError,
    )


def differentiates_above(level: int) -> bool:
    """Whether one of those is a derivative."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(each.key() != TransformType.Vmap for each in stack[level:])


def is_mapped(values: Tensor) -> bool:
    """Whether vmap maps ``values``, so that it differs between samples."""
    mapped: bool = torch._C._functorch.is_batchedtensor(values)
    return mapped


def mapped_axis(values: Tensor) -> int:
    """The axis of the samples in ``values``, which vmap maps, as it is below that vmap."""
    axis: int = torch._C._functorch.maybe_get_bdim(values)
    return axis


def below(values: Tensor, *, levels: int | None = None) -> Tensor:
    """``values`` as autograd sees it, below all levels of vmap or so many."""
    while is_mapped(values) and levels != 0:
        values = torch._C._functorch.get_unwrapped(values)
        levels = None if levels is None else levels - 1
    return values


def batch_first(values: Tensor, dim: int | None, size: int) -> Tensor:
    """``values`` with its mapped axis in front, made by expanding where there is none."""
    if dim is None:
        return values.expand(size, *values.shape)
    return values if dim == 0 else values.movedim(dim, 0)


class _WholeBatch(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> Any:
        raise RuntimeError("on_whole_batch: expected to be called under vmap, with a mapped probe.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise RuntimeError("on_whole_batch: expected to be called under vmap, with a mapped probe.")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], run: Run, probe: Tensor, *inputs: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        whole = [
            None if part is None else batch_first(part, dim, info.batch_size)
            for part, dim in zip(inputs, in_dims[2:], strict=True)
        ]
        results = run(info.randomness, probe, *whole)
        return results, (0,) * len(results)
