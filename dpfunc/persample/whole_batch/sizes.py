"""A number of samples that tells their axis: it divides the length of no other axis."""

import math
from collections.abc import Set
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.batches.batch import batch_size, map_tensors
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.whole_batch.schedule import Learned
from dpfunc.types import Tensors


def repeated(batch: tuple[Any, ...], different: int, size: int) -> tuple[Any, ...]:
    """A batch of ``size`` samples out of the first ``different`` ones, in turn.

    With some of them twice, no order that depends on the data is the order of the batch by chance.
    """

    def repeat(values: Tensor) -> Tensor:
        return values[torch.arange(size, device=values.device) % different]

    repeated_batch: tuple[Any, ...] = map_tensors(repeat, batch)
    return repeated_batch


def size_that_divides_none(sizes: Set[int], at_least: int) -> int:
    """The first prime that divides none of ``sizes``: it is in an axis by the samples alone."""
    for size in count(max(3, at_least)):
        prime = all(size % n for n in range(2, math.isqrt(size) + 1))
        if prime and all(other % size for other in sizes):
            return size
    raise AssertionError("there are more primes than sizes")


def sizes_of(
    loss_fn: Batched, params: Tensors, batch: tuple[Any, ...], like: Learned | None
) -> tuple[frozenset[int], float]:
    """Lengths of axes in the loss, without those of the batch, and its coarsest rounding.

    From what is known in other lengths they are guessed: the places have to be the same then.
    """
    if like is not None:
        lengths = {n for values in tensors_in(batch) for n in values.shape[1:]}
        return like.sizes | lengths, like.rounding
    different = batch_size(batch)
    look = _looked_at(loss_fn, params, repeated(batch, different, max(2, different)))
    return frozenset(look.sizes), look.rounding


class _Look(TorchFunctionMode):
    """Notes the length of every axis that it sees, and the coarsest rounding of a result."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()
        self.rounding = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        replace_tensors((args, kwargs, result), self._note)
        return result

    def _note(self, values: Tensor) -> None:
        self.sizes.update(values.shape)
        if values.is_floating_point():
            self.rounding = max(self.rounding, torch.finfo(values.dtype).eps)


def _looked_at(loss_fn: Batched, params: Tensors, batch: tuple[Any, ...]) -> _Look:
    look = _Look()
    with torch.enable_grad(), look:  # the loss may have derivatives of its own
        loss_fn(params, *batch)
    return look
