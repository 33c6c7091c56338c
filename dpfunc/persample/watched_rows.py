"""One run of a loss of the whole batch under the tape: factored gradients, or the way alone."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import batch_device
from dpfunc.persample.definition.dense import gradients, leaves_of
from dpfunc.persample.definition.loss import Batched, Randomness, checked_losses
from dpfunc.persample.factors.combine import combined
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.rules import RULES
from dpfunc.persample.watching.capture import Tape, unfactored
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.whole_batch.places import Places, Seen
from dpfunc.persample.whole_batch.recompute import Recalled, Recomputing
from dpfunc.persample.whole_batch.rows import Rows
from dpfunc.types import Tensors


def run_rows(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    places: Places,
    record: Record,
) -> tuple[dict[str, Factored], Tensor]:
    """The factored gradients and losses of ``batch``, whose ``places`` are known or learned."""
    size, leaves = places.size, leaves_of(params)
    probe = torch.zeros((), device=batch_device(batch), requires_grad=True)
    rows = Rows(places, probe, randomness)
    chance = Chance("error") if randomness == "error" else nullcontext()
    with torch.enable_grad():
        with Tape(RULES, leaves, record, rows) as tape, chance:
            losses = checked_losses(loss_fn, size)(leaves, *batch)
        places.finish()
        recalled = Recalled(places)
        watched = [*leaves.values(), *rows.derived.values()]
        with Recomputing(tape.again(rows.again(recalled)), recalled, watched):
            backward(losses, probe, {**leaves, **rows.derived}, rows.expanded, record)
        rows.finish(record)
    return collected(record, params, size), losses.detach()


def way_of(
    loss_fn: Batched, params: Tensors, batch: tuple[Any, ...], places: Places
) -> tuple[Seen, ...]:
    """What a forward pass alone learns of ``places``."""
    leaves = leaves_of(params)
    probe = torch.zeros((), device=batch_device(batch), requires_grad=True)
    with torch.enable_grad(), Tape(RULES, leaves, Record(), Rows(places, probe, "different")):
        checked_losses(loss_fn, places.size)(leaves, *batch)
    return places.finish()


def backward(
    losses: Tensor, probe: Tensor, leaves: Tensors, expanded: Tensors, record: Record
) -> None:
    """Run the taps, and record the gradients of the parameters that were used as copies."""
    if not losses.requires_grad:
        return
    inputs = [probe, *leaves.values(), *expanded.values()]
    _, *grads = gradients(losses, torch.ones_like(losses), inputs)
    escaped = [name for name, grad in zip(leaves, grads, strict=False) if grad is not None]
    if escaped and record.saw_derivative:
        raise unfactored(f"a derivative with respect to {escaped}")
    if escaped:
        raise RuntimeError(
            f"factored_grad: expected torch functions to use {escaped} but something else did "
            "(TorchScript, a custom autograd.Function of a parameter in a loss of the whole "
            'batch?); run that part in plain PyTorch, or use engine="dense".'
        )
    for name, grad in zip(expanded, grads[len(leaves) :], strict=True):
        if grad is not None:
            record.add(name, Dense(grad))


def collected(record: Record, params: Tensors, size: int) -> dict[str, Factored]:
    """The whole gradient of each parameter, from the factors of all its uses."""
    return {name: _whole(record, name, param, size) for name, param in params.items()}


def _whole(record: Record, name: str, param: Tensor, size: int) -> Factored:
    parts = record.factors.get(name)
    return combined(parts) if parts else Dense(param.new_zeros((size, *param.shape)))
