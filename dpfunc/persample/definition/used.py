"""Parameters that a loss leaves out: noise would be all that they are trained on."""

from collections.abc import Collection
from typing import Any

import torch

from dpfunc.persample.batches.batch import batch_size, take
from dpfunc.persample.definition.dense import gradients, leaves_of
from dpfunc.persample.definition.loss import Batched, LossFn
from dpfunc.types import Tensors


def require_used(params: Tensors, used: Collection[str]) -> None:
    """ValueError where the loss leaves parameters out: they would be trained on noise alone."""
    left_out = [name for name in params if name not in used]
    if left_out:
        some = ", ".join(map(repr, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        raise ValueError(
            f"loss_fn: expected a loss that depends on all of its {len(params)} params but got one "
            f"that leaves out {len(left_out)} of them: {some}; call the model as "
            "torch.func.functional_call(model, params, (x,)) and not as model(x), and pass only "
            "the params that it uses."
        )


def require_used_by_one_sample(
    loss_fn: LossFn, params: Tensors, batch: tuple[Any, ...], *, randomness: str
) -> None:
    """The same for a loss that nothing watches, at the cost of its first sample."""
    if batch_size(batch) == 0:
        return
    first = slice(0, 1) if isinstance(loss_fn, Batched) else 0
    leaves = leaves_of(params)
    draws = torch.random.fork_rng(_devices(params), enabled=randomness == "different")
    with draws, torch.enable_grad():
        loss = loss_fn(leaves, *take(batch, first)).sum()
        used: Collection[str] = ()
        if loss.requires_grad:
            grads = gradients(loss, torch.ones_like(loss), list(leaves.values()))
            used = [name for name, grad in zip(leaves, grads, strict=True) if grad is not None]
    require_used(params, used)


def _devices(params: Tensors) -> list[torch.device]:
    return list({param.device for param in params.values()} - {torch.device("cpu")})
