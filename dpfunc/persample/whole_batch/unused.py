"""What a model computes and no loss may use: comparisons of samples, such as CLIP's logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def unused(output: Tensor, probe: Tensor, refuse: Callable[[], Any]) -> Tensor:
    """``output``, which calls ``refuse`` where a gradient arrives at it. ``probe``: see `tap`."""
    result: Tensor = _Unused.apply(  # type: ignore[no-untyped-call]  # torch does not annotate it
        output, probe, refuse
    )
    return result


class _Unused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, _: Tensor, refuse: Callable[[], Any]) -> Tensor:
        ctx.refuse = refuse
        return output.clone()

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[None, None, None]:
        ctx.refuse()
        return None, None, None
