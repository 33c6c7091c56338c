"""Whether a loss is a sum, or a mean, of one term for each sample: tried on parts of the batch.

For a loss L of a batch S let F(S) be ``|S| * L(S)`` for a mean and ``L(S)`` for a sum. If each
sample has a term of its own, F of a batch is the sum of F of its parts, and so are the gradients. A
mean over the tokens of all samples, a contrastive term or a BatchNorm are not like that. The batch
is cut in two at random; the program of the loop runs on both parts, and on the whole.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import islice, product

import torch
from torch import Tensor, nn

from dpfunc.engine.in_doubt import (
    Again,
    NotInFloat64Error,
    agree_in_float64,
    gradients_stay,
)
from dpfunc.engine.program import Program
from dpfunc.engine.replaying import Replay, ReplayError
from dpfunc.persample.factors.closeness import close, used_rows
from dpfunc.persample.whole_batch.draws import Draws, draws_differ
from dpfunc.persample.whole_batch.parts import Held, PartGradient, PartsDifferError, disagreeing
from dpfunc.persample.whole_batch.schedule import Due
from dpfunc.persample.whole_batch.verify import choose
from dpfunc.random.keys import key
from dpfunc.random.subsets import permutation
from dpfunc.types import Tensors

_MOST_GUESSES = 16
_MOST_LISTED = 4096


class MixedSamplesError(RuntimeError):
    """The loss of one sample depends on the others."""


def require_separable(
    program: Program,
    params: Tensors,
    norms: Tensor,
    reduction: str,
    *,
    few_times: int,
    first: Tensor | None = None,
    again: Again | None,
    widely: Callable[[], AbstractContextManager[Tensors]],
) -> dict[int, Tensor]:
    """MixedSamplesError unless the losses are one term per sample; the constants, by place.

    ``params``: leaves. ``norms``: ``[B]``, of the gradients of the samples. They set the scale of
    what counts as rounding: where gradients cancel, their sum is no measure of it. ``few_times``:
    so many cuts of a few samples are tried, beside one of all and one of those that are ``first``.
    A ReLU whose input rounds to either side of 0 is open in a batch and shut in a part of it, as if
    samples mixed. So where parts differ in float32, two things have to hold: they agree ``widely``,
    inside of which the model runs in float64, with the parameters that the context gives; and, run
    ``again`` in the same shape, no sample's gradient changes with the others. The second is wanted
    in any case; float64 alone would hide what mixes by rounding, by overflow or by NaN.
    """
    cuts = list(_cuts(norms.shape[0], few_times, first))
    rounding = program.rounding()
    compared = partial(_differing, rounding, norms, cuts, reduction)
    with torch._C.DisableTorchFunctionSubclass():  # the program is not to note itself
        failures: list[str] = []
        for replay in _replays(program, params):
            try:
                differing = compared(replay, params)
            except ReplayError as error:
                failures.append(str(error))
                continue
            stays = again and gradients_stay(again, replay, rounding, reduction, first)
            if not differing and stays is False:
                raise MixedSamplesError(
                    f"PrivacyEngine: expected the loss to be the {reduction} of one term for each "
                    "sample but gradients of some samples change where other samples are replaced: "
                    "the model or the loss mixes samples, or puts them into another order; compute "
                    "each sample on its own, in the order of the batch."
                )
            try:
                if not differing or (stays and agree_in_float64(compared, replay, widely)):
                    return replay.constants()
            except NotInFloat64Error as error:
                raise MixedSamplesError(
                    "PrivacyEngine: expected parts of a batch to have the gradients that they have "
                    f"in the whole batch but for {differing[:5]} they have others. It may be "
                    "rounding, as no sample changes with the others; but the loop does not run in "
                    f"float64, which would tell ({error}). Let tensors that the model and the loss "
                    "make have the dtype of the data (x.new_zeros, dtype=x.dtype)."
                ) from error
            raise MixedSamplesError(
                f"PrivacyEngine: expected the loss to be the {reduction} "
                f'(loss_reduction="{reduction}") of one term for each sample, so that the gradient '
                "of the batch is made of the gradients of its parts, but for "
                f"{differing[:5]} it is not: the loss mixes samples (a mean over the tokens of the "
                "whole batch, class weights, a contrastive term), or it is reduced in another way. "
                "Reduce each sample on its own, then take .mean(); or give the right "
                "loss_reduction."
            )
    raise MixedSamplesError(
        f"PrivacyEngine: expected {failures[0]}. Use no other sample in the term of a sample, and "
        "leave sizes of the batch out of the loss (flatten, or view(-1, n))."
    )


HeldFor = Callable[[Replay], tuple[Held, Draws | None]]
"""Gradients to compare with parts that a replay makes, and what they were drawn with, if at all."""


def compare_parts(
    program: Program,
    params: Tensors,
    held_for: HeldFor,
    again: Again,
    due: Due,
    *,
    together: int,
    is_drawn: bool,
) -> tuple[dict[int, Tensor], Tensor | None]:
    """The constants, by place, and the samples of a part that disagrees; see `disagreeing`.

    Each part of the batch goes through the model and the loss by itself. ``held_for``: the
    gradients of the sum of the terms of the samples. ``is_drawn``: see `Replay`.
    """
    unknown = torch.zeros(0, dtype=torch.int64)
    with torch._C.DisableTorchFunctionSubclass():
        for replay in _replays(program, params, is_drawn=is_drawn):
            try:
                held, drawn = held_for(replay)
                of_part = _part_gradient(program, params, replay, held, drawn)
                found = disagreeing(held, of_part, due, together=together)
                if found is not None and drawn is None:
                    _require_same_again(held, replay, again)
            except PartsDifferError:
                return {}, unknown
            except ReplayError:
                continue
            return replay.constants(), found
    return {}, unknown


def _require_same_again(held: Held, replay: Replay, again: Again) -> None:
    """MixedSamplesError where the whole batch has other gradients now, twice the same ones.

    It is no rounding then that parts differ, and no look now tells of the model as it was. It runs
    under the same tape as the batch did, so that it rounds as the batch did. A generator of its own
    would give the model other numbers each time.
    """
    counts = held.norms.isfinite().cpu()  # those that are not are dropped, from the sum and here
    finite, weights = counts.nonzero().squeeze(1), counts.to(torch.float64)
    ones = weights[finite]
    try:
        with replay.as_it_was():
            one, other = (
                replace(held, grads=again(replay, None)).of_all(weights) for _ in range(2)
            )
        is_known = held.equal(one, other, finite, ones)
        has_changed = is_known and not held.equal(held.of_all(weights), one, finite, ones)
    except PartsDifferError:  # it takes another way now
        has_changed = True
    if has_changed:
        raise MixedSamplesError(
            "PrivacyEngine: expected a model that gives a batch the same gradients again but they "
            "are others before the step than they were in backward: a switch, or something that "
            "the model remembers, has changed in between. Leave it as it is until the step."
        )


def _part_gradient(
    program: Program, params: Tensors, replay: Replay, held: Held, drawn: Draws | None
) -> PartGradient:
    tolerance = math.sqrt(program.rounding())

    def of_part(samples: Tensor, weights: Tensor) -> Tensors:
        grads, draws = replay.gradient(params, samples, weights)
        if drawn is not None and draws_differ(drawn, draws, samples, tolerance):
            raise PartsDifferError
        scale = len(samples) if held.times != 1.0 else 1
        return {name: scale * grad for name, grad in grads.items()}

    return of_part


def _replays(program: Program, params: Tensors, *, is_drawn: bool = True) -> Iterator[Replay]:
    """For each guess of which tensors have samples, and where."""
    leaves = program.leaves()
    _require_known(leaves, program, params)
    size, inputs = program.size, program.inputs
    options = [_axes(leaf, size, id(leaf) in inputs) for leaf in leaves.values()]
    for axes in _guesses(options):
        yield Replay(program, dict(zip(leaves, axes, strict=True)), key(), is_drawn=is_drawn)


def _require_known(leaves: dict[int, Tensor], program: Program, params: Tensors) -> None:
    own = {id(param) for param in params.values()}
    reached = program.with_gradient()
    for leaf in leaves.values():
        if id(leaf) in own & reached:
            raise MixedSamplesError(
                "PrivacyEngine: expected a loss of the model's outputs but a parameter itself is "
                "in it; use weight_decay of the optimizer for a penalty on parameters."
            )
        if leaf.requires_grad and id(leaf) in reached:
            raise MixedSamplesError(
                "PrivacyEngine: expected a loss of the model's outputs but a tensor of shape "
                f"{tuple(leaf.shape)} in it requires grad and comes from elsewhere (another model, "
                "a criterion with parameters, something the model keeps); make it part of the "
                "model's forward, or detach it."
            )
        if leaf.dim() == 0 and id(leaf) not in program.inputs and not is_parameter(leaf):
            raise MixedSamplesError(
                "PrivacyEngine: expected a loss of the batch but a tensor of one number in it "
                f"({leaf}) comes from elsewhere, perhaps computed from the whole batch; use a "
                "Python number for a constant."
            )


def is_parameter(leaf: Tensor) -> bool:
    """Whether ``leaf`` belongs to a network: then no sample is in it, and it may be updated."""
    return isinstance(leaf, nn.Parameter)


def _axes(leaf: Tensor, size: int, is_input: bool) -> list[int | None]:
    """The axis of samples, and what else it may be. One that fits is taken for samples.

    Fresh public data beside each sample are of this kind: they change from batch to batch.
    """
    if is_input:
        return [0]
    if is_parameter(leaf):
        return [None]
    return [*(axis for axis, n in enumerate(leaf.shape) if n == size), None]


def _guesses(options: list[list[int | None]]) -> list[tuple[int | None, ...]]:
    """Those with samples in many leaves come first; at last, none but the inputs has any."""
    several = list(islice(product(*options), _MOST_LISTED))
    fewest_constants = sorted(several, key=lambda axes: sum(axis is None for axis in axes))
    return [*fewest_constants[:_MOST_GUESSES], tuple(option[-1] for option in options)]


def _differing(
    rounding: float,
    norms: Tensor,
    cuts: list[tuple[Tensor, Tensor]],
    reduction: str,
    replay: Replay,
    params: Tensors,
) -> list[str]:
    """The parameters whose gradient is not the sum over the parts."""
    tolerance = math.sqrt(rounding)

    def gradient(samples: Tensor) -> tuple[Tensors, Draws]:
        grads, draws = replay.gradient(params, samples)
        scale = len(samples) if reduction == "mean" else 1
        return {name: scale * grad for name, grad in grads.items()}, draws

    def differing(parts: tuple[Tensor, Tensor]) -> Iterator[str]:
        both, cut = torch.cat(parts), len(parts[0])
        (left, of_left), (right, of_right), (whole, of_all) = map(gradient, (*parts, both))
        positions = torch.arange(len(both))
        if draws_differ(of_all, of_left, positions[:cut], tolerance) or draws_differ(
            of_all, of_right, positions[cut:], tolerance
        ):
            raise ReplayError(
                "a loss of one term for each sample but what is random in it mixes them: the mean, "
                "or the probability, that a sample draws with depends on the others"
            )
        scale = float(norms[both.to(norms.device)].nan_to_num(0.0, 0.0).sum())
        for name in whole:
            one, other, grad = used_rows(left[name], right[name], whole[name])
            added = one.double() + other
            if not close(added, grad, tolerance, floor=tolerance * scale):
                yield name

    return sorted({name for parts in cuts for name in differing(parts)})


def _cuts(size: int, few_times: int, first: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch cut in two, and a few samples cut in two, several times.

    Parts of unequal size: equal ones hide whether a loss is a mean or a sum. Few samples: many
    have the same average of whatever mixes them. All of them: a few may not show what is rare.
    """
    order = permutation(key(), size) if size > 1 else torch.tensor([0, 0])
    cut = max(1, len(order) // 3)
    yield order[:cut], order[cut:]
    for number in range(few_times + 1):
        if number == few_times and first is None:
            return
        few = choose(size, 3, first if number == few_times else None)[torch.arange(3) % size]
        yield few[:1], few[1:]
