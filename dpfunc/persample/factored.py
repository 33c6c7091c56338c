"""Per-sample gradients in factored form: grad of vmap, one forward and one backward.

Bu, Wang, Zha and Karypis 2023 ("Differentially private optimization on large model at small cost",
arXiv:2210.00038) call the underlying idea book-keeping; here it is a transform of functions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.batch import batch_device, batch_size
from dpfunc.persample.capture import Record, Tape
from dpfunc.persample.combine import combined
from dpfunc.persample.dense import LossFn, Randomness, checked_loss, empty_grads
from dpfunc.persample.factors import Dense, Factored
from dpfunc.persample.rules import RULES
from dpfunc.types import Tensors


def factored_grad(
    loss_fn: LossFn, *, randomness: Randomness = "error"
) -> Callable[..., tuple[dict[str, Factored], Tensor]]:
    """The function ``(params, *batch) -> ({name: Factored}, losses [B])``.

    The gradients are those of `per_sample_grad`, never formed: each `Factored` answers
    ``norm_sq()``, ``weighted_sum(weights)`` and ``dense()``, and `leaf_norms` and `weighted_sum`
    take it as it is. One forward and one backward pass over the batch, at about the cost of
    training without privacy where a rule knows the operation; a parameter that is used in another
    way gets its dense per-sample gradient from autograd. Not private.

    Raises what `per_sample_grad` raises, and RuntimeError where a parameter is used out of sight of
    torch functions (TorchScript), whose gradient would be lost.

    >>> import torch
    >>> from dpfunc.persample.reduce import leaf_norms
    >>> loss = lambda params, x: (params["w"] @ x).sum()
    >>> grads, losses = factored_grad(loss)({"w": torch.ones(2, 2)}, torch.eye(2))
    >>> leaf_norms(grads)
    {'w': tensor([1.4142, 1.4142])}
    """
    scalar_loss = checked_loss(loss_fn, randomness)

    def grads_and_losses(params: Tensors, *batch: Any) -> tuple[dict[str, Factored], Tensor]:
        grads, losses, _ = record_factors(scalar_loss, randomness, params, batch)
        return grads, losses

    return grads_and_losses


def record_factors(
    scalar_loss: LossFn, randomness: Randomness, params: Tensors, batch: tuple[Any, ...]
) -> tuple[dict[str, Factored], Tensor, Record]:
    """The factored gradients, the losses, and the record of the operations that were watched."""
    require(len(params) > 0, "params", "at least one parameter", {}, "see named_params(module)")
    size, record = batch_size(batch), Record()
    if size == 0:
        nothing, losses = empty_grads(params)
        return {name: Dense(grad) for name, grad in nothing.items()}, losses, record
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    expanded = {
        name: param.detach().expand(size, *param.shape).requires_grad_()
        for name, param in params.items()
    }
    probe = torch.zeros(size, device=batch_device(batch), requires_grad=True)

    def watched(expanded: Tensors, probe: Tensor, *sample: Any) -> Tensor:
        with Tape(RULES, leaves, expanded, probe, record):
            return scalar_loss(leaves, *sample)

    with torch.enable_grad():
        losses = torch.func.vmap(watched, randomness=randomness)(expanded, probe, *batch)
        fallen_back = _backward(losses, probe, leaves, expanded)
    for name, grad in fallen_back.items():
        record.add(name, Dense(grad))
    grads = {name: _whole(record, name, param, size) for name, param in params.items()}
    return grads, losses.detach(), record


def _backward(losses: Tensor, probe: Tensor, leaves: Tensors, expanded: Tensors) -> Tensors:
    """Run the taps; the dense per-sample gradients of the parameters used through their copies."""
    if not losses.requires_grad:
        return {}
    inputs = [probe, *leaves.values(), *expanded.values()]
    _, *grads = torch.autograd.grad(losses.sum(), inputs, allow_unused=True)
    escaped = [name for name, grad in zip(leaves, grads, strict=False) if grad is not None]
    if escaped:
        raise RuntimeError(
            f"factored_grad: expected torch functions to use {escaped} but something else did "
            '(TorchScript?); run that part in plain PyTorch, or use engine="dense".'
        )
    copies = zip(expanded, grads[len(leaves) :], strict=True)
    return {name: grad for name, grad in copies if grad is not None}


def _whole(record: Record, name: str, param: Tensor, size: int) -> Factored:
    parts = record.factors.get(name)
    return combined(parts) if parts else Dense(param.new_zeros((size, *param.shape)))
