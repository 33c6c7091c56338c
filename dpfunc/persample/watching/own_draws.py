"""Draws in place under vmap, into a tensor that is the same for all samples: each gets its own.

A mask that a loss of one sample makes with ``torch.empty`` and fills with coins is one tensor for
the whole batch, which vmap refuses to fill with different numbers. Here it is exchanged for a
mapped one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.checks import require
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.watching.under_vmap import is_mapped

_IN_PLACE = (
    *("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_"),
    *("random_", "uniform_"),
)
_DRAW = {name: getattr(Tensor, name) for name in _IN_PLACE}


class OwnDraws(TorchFunctionMode):
    """For the inside of a vmap with ``randomness="different"``. ``probe``: a mapped zero."""

    def __init__(self, probe: Tensor) -> None:
        super().__init__()
        self._probe = probe.detach()
        self._drawn: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._drawn and any(id(tensor) in self._drawn for tensor in tensors_in((args, kwargs))):
            args, kwargs = replace_tensors((args, kwargs), self._own)
        name = getattr(func, "__name__", "")
        if name == "rrelu":
            return _rrelu(*args, **kwargs)
        if name not in _IN_PLACE or _differs(args[0]):
            return func(*args, **kwargs)
        require(
            not args[0]._is_view(),
            "per_sample_grad",
            f"{name} on a whole tensor",
            "a part of one that is the same for all samples",
            "draw into a tensor of its own, and put the parts together with torch.cat",
            error=RuntimeError,
        )
        mapped = args[0].clone() + self._probe.to(args[0].dtype)
        self._drawn[id(args[0])] = args[0], mapped  # the first one lives on, so that its id does
        return func(mapped, *args[1:], **kwargs)

    def _own(self, tensor: Tensor) -> Tensor:
        return self._drawn.get(id(tensor), (tensor, tensor))[1]


def _rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """`torch.rrelu`, for which vmap has no rule, with draws of torch as in the loss itself."""
    slopes = torch.full_like(input.detach(), (lower + upper) / 2)
    if training:
        _DRAW["uniform_"](slopes, lower, upper)
    result = F.relu(input) - slopes * F.relu(-input)
    return input.copy_(result) if inplace else result


def _differs(values: Tensor) -> bool:
    """Whether a vmap maps ``values``, perhaps below other transforms."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(values):
        if is_mapped(values):
            return True
        values = functorch.get_unwrapped(values)
    return False
