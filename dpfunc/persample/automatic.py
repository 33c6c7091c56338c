"""The engine that is chosen for a loss: factored, and by definition where that cannot be."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dpfunc.persample.definition.dense import per_sample_grad_and_loss
from dpfunc.persample.definition.loss import LossFn, Randomness
from dpfunc.persample.definition.used import require_used_by_one_sample
from dpfunc.persample.factored import factored_grad
from dpfunc.persample.factors.reduce import PerSample
from dpfunc.persample.watching.capture import UnfactoredError
from dpfunc.types import Tensors


def automatic_grad(
    loss_fn: LossFn, *, randomness: Randomness = "error"
) -> Callable[..., tuple[PerSample, Tensor]]:
    """The function ``(params, *batch) -> (per-sample gradients, losses [B])``. Not private.

    As `factored_grad`; for a loss with derivatives of its own (a gradient penalty, the residual of
    a differential equation), which that cannot run, as `per_sample_grad_and_loss`, in the memory of
    B gradients.

    >>> import torch
    >>> slope = lambda params, x: torch.func.grad(lambda z: (params["w"] * z).sum() ** 2)(x).sum()
    >>> grads, losses = automatic_grad(slope)({"w": torch.ones(2)}, torch.eye(2))
    >>> grads["w"]
    tensor([[6., 2.],
            [2., 6.]])
    """
    factored = factored_grad(loss_fn, randomness=randomness)
    dense = per_sample_grad_and_loss(loss_fn, randomness=randomness)

    def grads_and_losses(params: Tensors, *batch: Any) -> tuple[PerSample, Tensor]:
        try:
            return factored(params, *batch)
        except UnfactoredError:
            require_used_by_one_sample(loss_fn, params, batch, randomness=randomness)
            return dense(params, *batch)

    return grads_and_losses
