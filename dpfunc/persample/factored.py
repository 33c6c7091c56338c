"""Per-sample gradients in factored form: grad of vmap, one forward and one backward.

Bu, Wang, Zha and Karypis 2023 ("Differentially private optimization on large model at small cost",
arXiv:2210.00038) call the underlying idea book-keeping; here it is a transform of functions.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import batch_device, batch_size
from dpfunc.persample.definition.dense import empty_grads, leaves_of
from dpfunc.persample.definition.loss import (
    Batched,
    LossFn,
    Randomness,
    checked_loss,
    require_params,
    require_randomness_mode,
)
from dpfunc.persample.definition.own_words import in_own_words
from dpfunc.persample.definition.used import require_used
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.looks import Look
from dpfunc.persample.rules import RULES
from dpfunc.persample.watched_rows import backward, collected, run_rows
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.mapped import Mapped
from dpfunc.persample.watching.own_draws import OwnDraws
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.watching.under_vmap import require_outside
from dpfunc.persample.whole_batch.places import OffPlanError, Places
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
    >>> from dpfunc.persample.factors.reduce import leaf_norms
    >>> loss = lambda params, x: (params["w"] @ x).sum()
    >>> grads, losses = factored_grad(loss)({"w": torch.ones(2, 2)}, torch.eye(2))
    >>> leaf_norms(grads)
    {'w': tensor([1.4142, 1.4142])}
    """
    require_randomness_mode(randomness)

    def grads_and_losses(params: Tensors, *batch: Any) -> tuple[dict[str, Factored], Tensor]:
        grads, losses, record = record_factors(loss_fn, randomness, params, batch)
        if len(losses):
            require_used(params, record.factors)
        return grads, losses

    return grads_and_losses


_NOT_COMPILED: dict[str, Callable[..., Any]] = {}


def record_factors(
    loss_fn: LossFn, randomness: Randomness, params: Tensors, batch: tuple[Any, ...]
) -> tuple[dict[str, Factored], Tensor, Record]:
    """The factored gradients, the losses, and the record of the operations that were watched."""
    # torch.compile does not see through taps: it would lose gradients without a word. What is
    # around this is not compiled into it. Where no compiler is loaded none looks on; to load one,
    # as a decorator and a stance do, takes a second.
    if not _has_compiler():
        try:
            recorded = _record_factors(loss_fn, randomness, params, batch)
        except Exception:
            if not _has_compiler():
                raise
        else:
            if not _has_compiler():
                return recorded
        # The loss has loaded one just now, perhaps to compile a part of itself: once more, eagerly.
    if not _NOT_COMPILED:
        _NOT_COMPILED["record"] = torch.compiler.disable(_record_factors)
    found: tuple[dict[str, Factored], Tensor, Record] = _NOT_COMPILED["record"](
        loss_fn, randomness, params, batch
    )
    return found


def _has_compiler() -> bool:
    return "torch._dynamo" in sys.modules


def _record_factors(
    loss_fn: LossFn, randomness: Randomness, params: Tensors, batch: tuple[Any, ...]
) -> tuple[dict[str, Factored], Tensor, Record]:
    subject = "batched" if isinstance(loss_fn, Batched) else "factored_grad"
    require_outside(subject, "use dpfunc.per_sample_grad, which they can transform, or a loop")
    require_params(params)
    record = Record()
    if batch_size(batch) == 0:
        nothing, losses = empty_grads(params)
        return {name: Dense(grad) for name, grad in nothing.items()}, losses, record
    # Nor is the loss compiled, if it or a part of it is a compiled function.
    eagerly = torch.compiler.set_stance("force_eager") if _has_compiler() else nullcontext()
    with eagerly, in_own_words(subject):
        if isinstance(loss_fn, Batched):
            return *_watch_rows(loss_fn, randomness, params, batch, record), record
        return *_watch_mapped(loss_fn, randomness, params, batch, record), record


def _watch_mapped(
    loss_fn: LossFn, randomness: Randomness, params: Tensors, batch: tuple[Any, ...], record: Record
) -> tuple[dict[str, Factored], Tensor]:
    """The loss of one sample, under vmap."""
    size, leaves, scalar_loss = batch_size(batch), leaves_of(params), checked_loss(loss_fn)
    expanded = {
        name: param.detach().expand(size, *param.shape).requires_grad_()
        for name, param in params.items()
    }
    probe = torch.zeros(size, device=batch_device(batch), requires_grad=True)

    samples = Mapped()

    def watched(expanded: Tensors, probe: Tensor, *sample: Any) -> Tensor:
        draws = OwnDraws(probe) if randomness == "different" else nullcontext()
        with Tape(RULES, leaves, record, samples.enter(expanded, probe)) as tape, draws:
            loss = scalar_loss(leaves, *sample)
        record.saw_derivative = tape.saw_derivative
        return loss

    with torch.enable_grad():
        losses = torch.func.vmap(watched, randomness=randomness)(expanded, probe, *batch)
        backward(losses, probe, leaves, expanded, record)
        samples.finish(record)
    return collected(record, params, size), losses.detach()


def _watch_rows(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    record: Record,
) -> tuple[dict[str, Factored], Tensor]:
    """The loss of the whole batch, once it is known where its samples are."""
    look = Look(loss_fn, randomness, params, batch)
    for whole in (False, True):  # the second time with every branch that the batch takes
        try:
            learned = look.before(whole=whole)
            record.clear()
            places = Places(batch_size(batch), learned.seen)
            grads, losses = run_rows(loss_fn, randomness, params, batch, places, record)
            look.after(learned, grads, losses)
        except OffPlanError:
            continue
        return grads, losses
    raise RuntimeError(
        "batched: expected the loss to run the same operations on the same samples, twice, but it "
        "did not; take chance and counters out of it."
    )
