"""Gradients of samples multiplied with weights on their way from the loss into the model."""

from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.whole_batch.places import Place


def weigh_gradients(output: Tensor, place: Place, weights: Tensor) -> Tensor:
    """A copy of ``output``, whose gradient for each sample is multiplied with its weight ``[B]``.

    The tensor itself keeps its own gradients: another output may have been made of it.
    """
    shape = [1] * output.dim()
    shape[place.axis] = -1
    factors = weights.repeat_interleave(place.times).to(output).view(shape)
    result: Tensor = _Weighed.apply(output, factors)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return result


class _Weighed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return grad * factors, None
