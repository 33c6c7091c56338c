"""Per-sample gradients by definition: vmap over grad. Exact for every loss that vmap accepts."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpfunc.persample.batches.batch import batch_device, batch_size, take
from dpfunc.persample.definition.loss import (
    Batched,
    LossFn,
    Randomness,
    checked_loss,
    checked_losses,
    require_params,
    require_randomness_mode,
)
from dpfunc.persample.definition.nested_params import flattened, of_flat
from dpfunc.persample.definition.own_words import in_own_words
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.own_draws import OwnDraws
from dpfunc.types import Tensors


def per_sample_grad(loss_fn: LossFn, *, randomness: Randomness = "error") -> Callable[..., Tensors]:
    """The function ``(params, *batch) -> {name: [B, *shape]}``: the gradient of every sample.

    ``params``: tensors by name, or in any nesting of dicts, lists and tuples; so is the result.
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
    require_randomness_mode(randomness)

    def grads_and_losses(params: Any, *batch: Any) -> tuple[Any, Tensor]:
        flat, rebuild = flattened("per_sample_grad", params)
        if rebuild is not None:
            inner = per_sample_grad_and_loss(of_flat(loss_fn, rebuild), randomness=randomness)
            grads, losses = inner(flat, *batch)
            return rebuild(grads), losses
        require_params(params)
        if batch_size(batch) == 0:  # several operations refuse an empty batch inside vmap
            return empty_grads(params)
        if isinstance(loss_fn, Batched):
            with in_own_words("per_sample_grad"):
                return _one_by_one(loss_fn, randomness, params, batch)
        scalar_loss = checked_loss(loss_fn)

        def loss_of(params: Tensors, probe: Tensor, *sample: Any) -> Tensor:
            with OwnDraws(probe) if randomness == "different" else nullcontext():
                return scalar_loss(params, *sample)

        transform = torch.func.vmap(
            torch.func.grad_and_value(loss_of),
            in_dims=(None, 0, *(0 for _ in batch)),
            randomness=randomness,
        )
        probe = torch.zeros(batch_size(batch), device=batch_device(batch))
        # vmap has no rule for the fused attention kernels and would run them in a loop of samples.
        with sdpa_kernel(SDPBackend.MATH), in_own_words("per_sample_grad"):
            grads, losses = transform(params, probe, *batch)
        return grads, losses

    return grads_and_losses


def _one_by_one(
    loss_fn: Batched, randomness: Randomness, params: Tensors, batch: tuple[Any, ...]
) -> tuple[Tensors, Tensor]:
    """A loss that vmap cannot run has its gradients by batches of one sample."""
    size, names = batch_size(batch), list(params)
    with Chance("error") if randomness == "error" else nullcontext():
        alone = [loss_and_grad(loss_fn, params, take(batch, slice(i, i + 1))) for i in range(size)]
    grads = {name: torch.stack([grad[name] for _, grad in alone]) for name in names}
    return grads, torch.stack([loss for loss, _ in alone])


def loss_and_grad(
    loss_fn: Batched, params: Tensors, sample: tuple[Any, ...]
) -> tuple[Tensor, Tensors]:
    """The loss and the gradient of a batch of one sample, by plain autograd."""
    losses, grads = losses_and_grad(loss_fn, params, sample, None)
    return losses.sum(), grads


def weighted_grad(
    loss_fn: Batched, params: Tensors, batch: tuple[Any, ...], weights: Tensor
) -> Tensors:
    """``sum_i weights[i] * gradient[i]`` by one backward pass of plain autograd."""
    return losses_and_grad(loss_fn, params, batch, weights)[1]


def losses_and_grad(
    loss_fn: Batched, params: Tensors, batch: tuple[Any, ...], weights: Tensor | None
) -> tuple[Tensor, Tensors]:
    """The losses, and the gradient of their sum with these weights, by plain autograd."""
    leaves = leaves_of(params)
    with torch.enable_grad():
        losses = checked_losses(loss_fn, batch_size(batch))(leaves, *batch)
        if not losses.requires_grad:
            return losses, {name: torch.zeros_like(param) for name, param in params.items()}
        weights = torch.ones_like(losses) if weights is None else weights
        grads = gradients(losses, weights, list(leaves.values()))
    found = {
        name: torch.zeros_like(leaf) if grad is None else grad.to_dense()  # of a sparse embedding
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
    return losses.detach(), found


def gradients(
    outputs: Tensor, weights: Tensor, inputs: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Of ``(weights * outputs).sum()`` at ``inputs``, with the modes of torch functions in force.

    They are off while `torch.autograd.grad` runs on tensors, which is a torch function itself, and
    not while it runs on edges. What is checkpointed runs again in there.
    """
    output, *ends = map(get_gradient_edge, (outputs, *inputs))
    grads = torch.autograd.grad(output, ends, weights, allow_unused=True)
    return [in_full(grad) for grad in grads]


def in_full(grad: Tensor | None) -> Tensor | None:
    """A gradient with all its rows: that of a sparse embedding has those that were looked up."""
    return grad.to_dense() if grad is not None and grad.is_sparse else grad


def leaves_of(params: Tensors) -> Tensors:
    """The same numbers, for autograd to begin with."""
    return {name: param.detach().requires_grad_() for name, param in params.items()}


def empty_grads(params: Tensors) -> tuple[Tensors, Tensor]:
    """The gradients and losses of a batch of no samples."""
    grads = {name: param.new_zeros((0, *param.shape)) for name, param in params.items()}
    return grads, next(iter(params.values())).new_zeros(0)
