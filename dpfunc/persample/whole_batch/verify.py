"""A loss of the whole batch, run on a few samples: where its samples are, and whether they mix."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import batch_size, map_tensors, take
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.definition.dense import loss_and_grad, weighted_grad
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.factors.closeness import MANY_ROWS, close, tolerances
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, leaf_norms
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.widened import Widened, in_float64
from dpfunc.persample.whole_batch.draws import Draws, draws_differ
from dpfunc.persample.whole_batch.parts import Held
from dpfunc.persample.whole_batch.places import OffPlanError, Places, is_same_way
from dpfunc.persample.whole_batch.replaced import stay_where_others_are_replaced
from dpfunc.persample.whole_batch.schedule import FEW_SAMPLES, Learned
from dpfunc.persample.whole_batch.sizes import repeated, size_that_divides_none, sizes_of
from dpfunc.random.continuous import normal
from dpfunc.random.keys import key
from dpfunc.random.subsets import permutation
from dpfunc.types import Tensors

RunRows = Callable[[Places, Tensors, tuple[Any, ...]], tuple[dict[str, Factored], Tensor]]
"""The factored gradients and losses of a batch whose places are given, or learned on the way."""


def verified_places(
    loss_fn: Batched,
    run: RunRows,
    params: Tensors,
    batch: tuple[Any, ...],
    chosen: Tensor,
    *,
    together: bool,
    alone: int = FEW_SAMPLES,
    like: Learned | None = None,
    first: Tensor | None = None,
) -> Learned:
    """The places of ``loss_fn``'s tensors, from the samples of ``batch`` that were ``chosen``.

    ``together``: whether all of ``batch`` is compared with plain autograd, beside so many of the
    few ``alone``. Else the few are compared together, unless none is alone. ``like``: what is known
    of the loss in other lengths; all are compared where it takes another way in these.
    RuntimeError where the loss of a sample depends on the others, or a gradient is not its own
    sample's. A ReLU whose input rounds to either side of 0 is open in a batch and shut alone, as if
    samples mixed: of millions, float32 has some. What differs in float32 is looked at in float64;
    then, and where samples are suspected (``first``), gradients have to stay where others change.
    """
    few = map_tensors(lambda values: values[chosen.to(values.device)], batch)

    def look(params: Tensors, few: tuple[Any, ...], batch: tuple[Any, ...]) -> Learned:
        learned = _learned_places(loss_fn, run, params, few, alone, like)
        is_new = like is not None and not is_same_way(learned.seen, like.seen)
        if alone > 0:
            of_all = together or is_new
            _require_attributed(loss_fn, run, learned, params, batch if of_all else few)
        return learned

    given = (params, few, batch)
    try:
        learned = look(*given)
    except OffPlanError:
        raise
    except RuntimeError as error:
        coarse = [torch.finfo(t.dtype).eps for t in tensors_in(given) if t.is_floating_point()]
        if max(coarse) <= torch.finfo(torch.float64).eps:
            raise
        try:
            with Widened():
                learned = look(*replace_tensors(given, in_float64))
        except Exception:  # it does mix samples, or is not made for float64, or has another way
            raise error from None
        learned = learned._replace(rounding=max(coarse))
        if not _gradients_stay(run, learned, params, batch, first):  # apart in float64 alone
            raise
        return learned
    if first is not None and _gradients_stay(run, learned, params, batch, first) is False:
        raise RuntimeError(
            "batched: expected each sample to have the same gradient alone as in a batch but "
            "gradients change where the other samples are replaced: samples are mixed; reduce "
            "every sample on its own."
        )
    return learned


def choose(size: int, samples: int, first: Tensor | None = None) -> Tensor:
    """So many of ``size`` samples, the ``first`` ones and any others.

    Any of them, so that what the first ones of a batch hide is not hidden for ever.
    """
    chosen = permutation(key(), size)
    if first is not None:
        chosen = torch.cat([first, chosen[~torch.isin(chosen, first)]])
    return chosen[:samples]


def _learned_places(
    loss_fn: Batched,
    run: RunRows,
    params: Tensors,
    batch: tuple[Any, ...],
    alone: int,
    like: Learned | None,
) -> Learned:
    """The places, from a batch of few samples, of which some are compared with themselves alone."""
    different = batch_size(batch)
    with Chance("none"):
        sizes, rounding = sizes_of(loss_fn, params, batch, like)
        size = size_that_divides_none(sizes - {0, 1}, different + 1)
        places = Places(size)
        samples_in_turn = repeated(batch, different, size)
        chance = key()
        with Draws(chance, torch.arange(size) % different) as draws:
            grads, losses = run(places, params, samples_in_turn)
        require_unchanged(samples_in_turn)
        for sample in range(min(alone, different)):
            own = map_tensors(torch.clone, take(batch, slice(sample, sample + 1)))
            here = torch.tensor([sample])
            with Draws(chance, here, draws.places) as of_one:
                by_itself = loss_and_grad(loss_fn, params, own)
            inside = {name: grad.take(slice(sample, sample + 1)) for name, grad in grads.items()}
            _require_equal(sample, losses[sample], inside, *by_itself, rounding)
            _require_own_chance(draws, of_one, here, rounding)
    seen = places.finish()
    if like is not None and not is_same_way(seen, like.seen):
        return _learned_places(loss_fn, run, params, batch, FEW_SAMPLES, None)
    return Learned(seen, different, rounding, draws=tuple(draws.places), sizes=sizes)


def _require_attributed(
    loss_fn: Batched, run: RunRows, learned: Learned, params: Tensors, batch: tuple[Any, ...]
) -> None:
    """RuntimeError unless every gradient of ``batch`` is held as its own sample's.

    For random weights the weighted sum of the gradients is one backward pass of plain autograd. Two
    sets of gradients that agree in it are the same, except with probability zero.
    """
    chance = key()

    def drawing() -> Draws:
        return Draws(chance, torch.arange(batch_size(batch)), learned.draws)

    def gradients() -> tuple[dict[str, Factored], Tensor]:
        with drawing():
            return run(Places(batch_size(batch), learned.seen), params, batch)

    with Chance("none"):
        grads, losses = gradients()
        # One that is not finite would make every sum so, and hide what is wrong with the others.
        finite = torch.stack([losses, *(grad.norm_sq() for grad in grads.values())])
        finite = finite.isfinite().all(0)
        if not bool(finite.all()):
            batch = map_tensors(lambda values: values[finite.to(values.device)], batch)
            if batch_size(batch) == 0:
                return
            grads, losses = gradients()
        size = batch_size(batch)
        weights = normal(key(), (size,), device=losses.device).to(losses.dtype)
        with drawing():
            sums = weighted_grad(loss_fn, params, batch, weights)
    total = _norm(sums)
    relative, small = tolerances(learned.rounding)
    differing = [
        name
        for name, grad in sums.items()
        if not close(grads[name].weighted_sum(weights), grad, relative, floor=small * total)
    ]
    if differing:
        raise RuntimeError(
            f"batched: expected the gradient of each of the {size} samples in its place but for "
            f"{differing[:5]} they are held for others: the loss puts samples into another order "
            "on the way. Write the loss of one sample instead (no batched), or mask, not sort."
        )


def _gradients_stay(
    run: RunRows,
    learned: Learned,
    params: Tensors,
    batch: tuple[Any, ...],
    first: Tensor | None,
) -> bool | None:
    """Whether no sample's gradient changes with the others, in the numbers of the batch itself.

    None where the loss takes another way then.
    """
    chance, size = key(), batch_size(batch)

    def gradients(samples: Tensor) -> dict[str, Factored]:
        chosen = map_tensors(lambda values: values[samples.to(values.device)], batch)
        with Chance("none"), Draws(chance, samples, learned.draws):
            return run(Places(size, learned.seen), params, chosen)[0]

    try:
        own = gradients(torch.arange(size))
        norms = global_norm(leaf_norms(own))
        return stay_where_others_are_replaced(Held(own, norms, learned.rounding), gradients, first)
    except OffPlanError:
        return None


def _require_own_chance(whole: Draws, alone: Draws, sample: Tensor, rounding: float) -> None:
    """RuntimeError where what a sample draws with depends on the others."""
    if draws_differ(whole, alone, sample, math.sqrt(rounding)):
        raise RuntimeError(
            "batched: expected a sample to draw with numbers of its own but the mean, or the "
            "probability, of a random operation depends on the other samples; compute it from the "
            "sample alone."
        )


def writes(batch: Any) -> list[int]:
    """How often each tensor in ``batch`` has been written to."""
    return [0 if values.is_inference() else values._version for values in tensors_in(batch)]


def require_unchanged(batch: Any, before: list[int] | None = None) -> None:
    """RuntimeError where the loss has written to its data, which then differs at its next look.

    ``before``: its `writes` before; none of a fresh copy.
    """
    now = writes(batch)
    if now != (before or [0] * len(now)):
        raise RuntimeError(
            "batched: expected the loss to leave its data as it is but it changes a tensor of the "
            "batch in place; work on a copy, for example x = x.clone()."
        )


def _require_equal(
    sample: int,
    loss: Tensor,
    grads: dict[str, Factored],
    loss_alone: Tensor,
    alone: Tensors,
    rounding: float,
) -> None:
    """RuntimeError unless both are one sample's loss and gradient, up to rounding."""
    relative, small = tolerances(rounding)
    total = _norm(alone)
    differing = [
        name
        for name, grad in alone.items()
        if not close(grads[name].dense()[0], grad, relative, floor=small * total)
    ]
    if differing or not close(loss, loss_alone, relative, floor=small):
        raise RuntimeError(
            f"batched: expected sample {sample} to have the same loss and gradient alone as in a "
            f"batch but the loss is {float(loss_alone):.6g} alone and {float(loss):.6g} in a "
            f"batch, and the gradient differs for {differing[:5] or 'no parameter'}: samples are "
            "mixed (BatchNorm, a mean over the tokens of the whole batch), chance is involved, or "
            "samples do not lie in order on one axis. Reduce every sample on its own."
        )


def _norm(grads: Tensors) -> float:
    """Of all gradients that are finite together: the others have no size to compare with."""
    rows = [_norms_of_rows(grad) for grad in grads.values()]
    squares = [float(norms.double().square().sum()) for norms in rows]
    return math.sqrt(sum(square for square in squares if math.isfinite(square)))


def _norms_of_rows(grad: Tensor) -> Tensor:
    """A large table by the norms of its rows, in one pass; all else as it is."""
    large = grad.dim() == 2 and len(grad) >= MANY_ROWS
    return torch.linalg.vector_norm(grad, dim=1) if large else grad
