"""Per-sample gradients by definition: vmap over grad. Exact for every loss that vmap accepts."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpfunc.checks import require
from dpfunc.persample.batch import batch_size
from dpfunc.types import Tensors

LossFn = Callable[..., Tensor]
"""``loss_fn(params, *sample) -> scalar``: the loss of ONE sample, without a batch axis."""

Randomness = Literal["error", "different"]


def per_sample_grad(loss_fn: LossFn, *, randomness: Randomness = "error") -> Callable[..., Tensors]:
    """The function ``(params, *batch) -> {name: [B, *shape]}``: the gradient of every sample.

    ``grads[name][i] = d loss_fn(params, *(part[i] for part in batch)) / d params[name]``: vmap over
    grad, so the result is exact for any loss that `torch.func.vmap` accepts, and needs memory for
    B gradients. Not private: these are the gradients of individual people.

    ``randomness`` concerns dropout and its like inside the loss: "error" refuses it, "different"
    draws anew for every sample, from torch's generator, in the order of the batch. vmap's "same" is
    refused: all samples would share one mask.

    | case | result |
    |---|---|
    | ``B == 0`` | ``{name: [0, *shape]}`` |
    | a parameter that the loss does not use | zeros |
    | NaN or infinite data in sample i | NaN or infinity in row i only |

    Raises ValueError where ``params`` is empty, the batch has no common axis 0, or the loss is not
    a scalar; RuntimeError from vmap where the loss depends on data in Python control flow.

    >>> import torch
    >>> loss = lambda params, x: (params["w"] * x).sum()
    >>> per_sample_grad(loss)({"w": torch.zeros(2)}, torch.eye(2))
    {'w': tensor([[1., 0.],
            [0., 1.]])}
    """
    grad_and_loss = per_sample_grad_and_loss(loss_fn, randomness=randomness)

    def grads_of(params: Tensors, *batch: Any) -> Tensors:
        return grad_and_loss(params, *batch)[0]

    return grads_of


def per_sample_grad_and_loss(
    loss_fn: LossFn, *, randomness: Randomness = "error"
) -> Callable[..., tuple[Tensors, Tensor]]:
    """The function ``(params, *batch) -> ({name: [B, *shape]}, losses [B])``.

    As `per_sample_grad`, with the loss of every sample. Neither is private.

    >>> import torch
    >>> loss = lambda params, x: (params["w"] * x).sum()
    >>> per_sample_grad_and_loss(loss)({"w": torch.ones(2)}, torch.eye(2))[1]
    tensor([1., 1.])
    """
    scalar_loss = checked_loss(loss_fn, randomness)

    def grads_and_losses(params: Tensors, *batch: Any) -> tuple[Tensors, Tensor]:
        require(len(params) > 0, "params", "at least one parameter", {}, "see named_params(module)")
        if batch_size(batch) == 0:  # several operations refuse an empty batch inside vmap
            return empty_grads(params)
        transform = torch.func.vmap(
            torch.func.grad_and_value(scalar_loss),
            in_dims=(None, *(0 for _ in batch)),
            randomness=randomness,
        )
        # vmap has no rule for the fused attention kernels and would run them in a loop of samples.
        with sdpa_kernel(SDPBackend.MATH):
            grads, losses = transform(params, *batch)
        return grads, losses

    return grads_and_losses


def checked_loss(loss_fn: LossFn, randomness: Randomness) -> LossFn:
    """``loss_fn``, which from now on has to return a scalar; ValueError for a bad randomness."""
    require(
        randomness in ("error", "different"),
        "per_sample_grad",
        'randomness "error" or "different"',
        randomness,
        'use "different": each sample draws its own dropout mask',
    )

    def scalar_loss(params: Tensors, *sample: Any) -> Tensor:
        loss = loss_fn(params, *sample)
        require(
            isinstance(loss, Tensor) and loss.dim() == 0,
            "loss_fn",
            "a scalar: the loss of one sample",
            tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__,
            "reduce it, for example with .sum() or .mean() over the positions of the sample",
        )
        return loss

    return scalar_loss


def empty_grads(params: Tensors) -> tuple[Tensors, Tensor]:
    """The gradients and losses of a batch of no samples."""
    grads = {name: param.new_zeros((0, *param.shape)) for name, param in params.items()}
    return grads, next(iter(params.values())).new_zeros(0)
