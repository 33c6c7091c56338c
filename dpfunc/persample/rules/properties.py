"""What a loss may ask of a tensor, and vmap answers for the wrapper instead of what it wraps.

Hooks on tensors are among it, so that tools that look at a backward pass work:
`torch.utils.flop_counter`, `torch.utils.module_tracker`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.watching.capture import Rule, Tape
from dpfunc.persample.watching.under_vmap import below, is_mapped, mapped_axis

Hook = Callable[[Tensor], Tensor | None]


def _requires_grad(tape: Tape, value: Tensor) -> bool:
    return below(value).requires_grad


def _grad_fn(tape: Tape, value: Tensor) -> Any:
    return below(value).grad_fn


def _register_hook(tape: Tape, value: Tensor, hook: Hook) -> Any:
    """A hook that sees the gradient of one sample, and may change it."""
    if not is_mapped(value) or is_mapped(below(value, levels=1)):
        return NotImplemented
    axis = mapped_axis(value)

    def of_sample(grad: Tensor) -> Tensor:
        changed = hook(grad)
        return grad if changed is None else changed

    return below(value).register_hook(torch.vmap(of_sample, in_dims=axis, out_dims=axis))


_ASKS_REQUIRES_GRAD, _ASKS_GRAD_FN = (
    vars(torch._C.TensorBase)[name].__get__ for name in ("requires_grad", "grad_fn")
)

PROPERTY_RULES = {
    _ASKS_REQUIRES_GRAD: Rule(_requires_grad, always=True),
    _ASKS_GRAD_FN: Rule(_grad_fn, always=True),
    Tensor.register_hook: Rule(_register_hook, always=True),
}
