"""Per-sample gradients in factored form: grad of vmap, one forward and one backward.

Bu, Wang, Zha and Karypis 2023 ("Differentially private optimization on large model at small cost",
arXiv:2210.00038) call the underlying idea book-keeping; here it is a transform of functions.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import batch_device, batch_size, map_tensors
from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.definition.dense import empty_grads, gradients, leaves_of
from dpfunc.persample.definition.loss import (
    Batched,
    LossFn,
    Randomness,
    checked_loss,
    checked_losses,
    require_params,
    require_randomness_mode,
)
from dpfunc.persample.definition.own_words import in_own_words
from dpfunc.persample.definition.used import require_used
from dpfunc.persample.factors.combine import combined
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.rules import RULES
from dpfunc.persample.watching.capture import Tape, unfactored
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.mapped import Mapped
from dpfunc.persample.watching.own_draws import OwnDraws
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.watching.under_vmap import require_outside
from dpfunc.persample.whole_batch.places import OffPlanError, Places
from dpfunc.persample.whole_batch.recompute import Recalled, Recomputing
from dpfunc.persample.whole_batch.rows import Rows
from dpfunc.persample.whole_batch.verify import (
    FEW_SAMPLES,
    Learned,
    verified_places,
)
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
    # around this is not compiled into it. As a decorator it would make `import` import a compiler.
    if not _NOT_COMPILED:
        _NOT_COMPILED["record"] = torch.compiler.disable(_record_factors)
    found: tuple[dict[str, Factored], Tensor, Record] = _NOT_COMPILED["record"](
        loss_fn, randomness, params, batch
    )
    return found


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
    with torch.compiler.set_stance("force_eager"), in_own_words(subject):
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
        _backward(losses, probe, leaves, expanded, record)
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

    for whole in (False, True):  # the second time with every branch that the batch takes
        try:
            known = places_of(loss_fn, randomness, params, batch, whole=whole)
            record.clear()
            places = Places(batch_size(batch), known.seen)
            return _run_rows(loss_fn, randomness, params, batch, places, record)
        except OffPlanError:
            continue
    raise RuntimeError(
        "batched: expected the loss to run the same operations on the same samples, twice, but it "
        "did not; take chance and counters out of it."
    )


def places_of(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    *,
    whole: bool = False,
) -> Learned:
    """Where the samples are in the tensors of ``loss_fn``: known already, or learned and verified.

    ``whole``: learn it anew, from all samples of the batch rather than a few. Raises OffPlanError
    where the batch takes another way through ``loss_fn`` than those that it was learned from.
    """
    record = Record()

    def run(
        places: Places, params: Tensors, batch: tuple[Any, ...]
    ) -> tuple[dict[str, Factored], Tensor]:
        record.clear()
        return _run_rows(loss_fn, randomness, params, batch, places, record)

    known = known_places(loss_fn, params, batch)
    if known is not None and not whole:
        return known
    before: Learned | None = loss_fn.verified.get(_signature(params, batch))
    samples = batch_size(batch) if whole else FEW_SAMPLES
    known = verified_places(loss_fn, run, params, batch, samples)
    uses = 1 if before is None else before.uses + 1
    loss_fn.verified[_signature(params, batch)] = known._replace(uses=uses)
    return known


def known_places(loss_fn: Batched, params: Tensors, batch: tuple[Any, ...]) -> Learned | None:
    """What is known of ``loss_fn`` on such a batch; None where it is time to look (again)."""
    signature = _signature(params, batch)
    known: Learned | None = loss_fn.verified.get(signature)
    # While a graph is captured there are no numbers to look at; there were, when it ran before.
    few = min(batch_size(batch), FEW_SAMPLES)
    if known is None or (have_numbers(batch) and not known.serves(few)):
        return None
    loss_fn.verified[signature] = known._replace(uses=known.uses + 1)
    return known


def _signature(params: Tensors, batch: tuple[Any, ...]) -> tuple[Any, ...]:
    shapes = map_tensors(lambda values: (values.dtype, values.shape[1:]), batch)
    return str(shapes), tuple((name, param.shape) for name, param in params.items())


def _run_rows(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    places: Places,
    record: Record,
) -> tuple[dict[str, Factored], Tensor]:
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
            _backward(losses, probe, {**leaves, **rows.derived}, rows.expanded, record)
        rows.finish(record)
    return collected(record, params, size), losses.detach()


def _backward(
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
