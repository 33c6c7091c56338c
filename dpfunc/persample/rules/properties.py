"""What a loss may ask of a tensor, and vmap answers for the wrapper instead of what it wraps."""

import torch
from torch import Tensor

from dpfunc.persample.watching.capture import Rule, Tape
from dpfunc.persample.watching.under_vmap import requires_grad_below


def _requires_grad(tape: Tape, value: Tensor) -> bool:
    return requires_grad_below(value)


_ASKS_REQUIRES_GRAD = vars(torch._C.TensorBase)["requires_grad"].__get__

PROPERTY_RULES = {_ASKS_REQUIRES_GRAD: Rule(_requires_grad, always=True)}
