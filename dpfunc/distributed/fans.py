"""What a loss of tensor-parallel parameters says where processes meet: `fan_out` and `fan_in`.

Between the two each process works with its own part of the parameters; outside of them all do the
same. They are the conjugate operators of Megatron-LM (Shoeybi et al. 2019, arXiv:1909.08053,
section 3), made for per-sample gradients: they work inside of vmap.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Mesh = Any
"""A ``torch.distributed.device_mesh.DeviceMesh`` of one dimension."""


def fan_out(values: Tensor, mesh: Mesh) -> Tensor:
    """``values``, the same on all processes of ``mesh``, for each to use with its own part.

    The gradient that comes back is the sum of theirs: one collective in backward.

    >>> fan_out(torch.ones(2), None)  # one process
    tensor([1., 1.])
    """
    result: Tensor = values if mesh is None else _FanOut.apply(values, mesh.get_group())  # type: ignore[no-untyped-call]  # torch does not annotate it
    return result


def fan_in(values: Tensor, mesh: Mesh) -> Tensor:
    """The sum of what the processes of ``mesh`` have made: one collective in forward.

    >>> fan_in(torch.ones(2), None)
    tensor([1., 1.])
    """
    result: Tensor = values if mesh is None else _FanIn.apply(values, mesh.get_group())  # type: ignore[no-untyped-call]  # as above
    return result


class _FanOut(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, _group: Any) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _FanIn.apply(grad, ctx.group), None  # type: ignore[no-untyped-call]  # as above

    @staticmethod
    def vmap(_info: Any, in_dims: Any, values: Tensor, group: Any) -> tuple[Tensor, Any]:
        return _FanOut.apply(values, group), in_dims[0]  # type: ignore[no-untyped-call]  # as above


class _FanIn(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, group: Any) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _FanOut.apply(grad, ctx.group), None  # type: ignore[no-untyped-call]  # as above

    @staticmethod
    def vmap(_info: Any, in_dims: Any, values: Tensor, group: Any) -> tuple[Tensor, Any]:
        return _FanIn.apply(values, group), in_dims[0]  # type: ignore[no-untyped-call]  # as above
