"""A parameter in another shape or order (``W.T``): its gradient is that of the view, put back.

A view only moves numbers, so that the norm of its gradient is the norm of the parameter's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.factors.outer import Outer

_BY_NAME = (
    *("contiguous", "flatten", "movedim", "permute", "reshape", "squeeze", "swapaxes", "t"),
    *("transpose", "unflatten", "unsqueeze", "view"),
)
_PROPERTIES = (vars(torch._C.TensorBase)[name].__get__ for name in ("T", "mT"))
VIEWS: frozenset[Any] = frozenset(
    (
        *_PROPERTIES,
        *(
            getattr(place, name)
            for place in (torch, Tensor)
            for name in _BY_NAME
            if hasattr(place, name)
        ),
    )
)
"""Functions whose result holds exactly the numbers of their first argument."""


@dataclass(frozen=True)
class Viewed:
    """The gradients ``of_view`` of a view of a parameter. ``put_back`` undoes the view."""

    of_view: Factored
    put_back: Callable[[Tensor], Tensor]

    def norm_sq(self) -> Tensor:
        return self.of_view.norm_sq()

    def sizes(self) -> Tensor:
        return self.of_view.sizes()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return self.put_back(self.of_view.weighted_sum(weights))

    def dense(self) -> Tensor:
        rows: Tensor = torch.func.vmap(self.put_back)(self.of_view.dense())
        return rows

    def take(self, where: slice) -> "Viewed":
        return Viewed(self.of_view.take(where), self.put_back)


def put_back(factor: Factored, view: Callable[[Tensor], Tensor], param: Tensor) -> Factored:
    """The gradients of ``param`` from those of ``view(param)``."""
    frozen = param.detach()
    if _is_transpose(view(frozen), frozen):
        match factor:
            case Outer(left, right):
                return Outer(right, left)
            case Dense(values):
                return Dense(values.mT)

    def undo(values: Tensor) -> Tensor:
        like = torch.empty_like(frozen, dtype=values.dtype)
        (undone,) = torch.func.vjp(view, like)[1](values)
        whole: Tensor = undone
        return whole

    return Viewed(factor, undo)


def _is_transpose(view: Tensor, param: Tensor) -> bool:
    """The same memory, read the other way round: a copy may have such strides by chance."""
    alias: bool = torch._C._is_alias_of(view, param)  # type: ignore[attr-defined]  # made in C++
    return (
        alias
        and param.dim() == 2
        and view.shape == param.shape[::-1]
        and view.stride() == param.stride()[::-1]
        and min(param.shape) > 1
    )
