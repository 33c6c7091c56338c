"""Whether a loss is a sum, or a mean, of one term for each sample: tried on parts of the batch.

For a loss L of a batch S let F(S) be ``|S| * L(S)`` for a mean and ``L(S)`` for a sum. If each
sample has a term of its own, F of a batch is the sum of F of its parts, and so are the gradients. A
mean over the tokens of all samples, a contrastive term or a BatchNorm are not like that. The batch
is cut in two at random; the program of the loop runs on both parts, and on the whole.
"""

import math
from collections.abc import Iterator
from itertools import islice, product

import torch
from torch import Tensor, nn

from dpfunc.engine.forward import WatchedForward
from dpfunc.engine.program import Program
from dpfunc.engine.replaying import Replay, ReplayError
from dpfunc.persample.whole_batch.draws import Draws, draws_differ
from dpfunc.persample.whole_batch.verify import close, is_time_to_look, used_rows
from dpfunc.random.keys import key
from dpfunc.random.subsets import permutation
from dpfunc.types import Tensors

_MOST_GUESSES = 16
_MOST_LISTED = 4096
_FIRST_LOOK, _LATER_LOOK = 6, 1  # so many cuts of a few samples


class MixedSamplesError(RuntimeError):
    """The loss of one sample depends on the others."""


def require_separable(
    program: Program, params: Tensors, norms: Tensor, reduction: str, *, few_times: int
) -> dict[int, Tensor]:
    """MixedSamplesError unless the losses are one term per sample; the constants, by place.

    ``params``: leaves. ``norms``: ``[B]``, of the gradients of the samples. They set the scale of
    what counts as rounding: where gradients cancel, their sum is no measure of it. ``few_times``:
    so many cuts of a few samples are tried, beside one of all.
    """
    size, inputs = norms.shape[0], program.inputs
    cuts = list(_cuts(size, few_times))
    with torch._C.DisableTorchFunctionSubclass():  # the program is not to note itself
        leaves = program.leaves()
        _require_known(leaves, program, params)
        options = [_axes(leaf, size, id(leaf) in inputs) for leaf in leaves.values()]
        failures: list[str] = []
        for axes in _guesses(options):
            by_leaf = dict(zip(leaves, axes, strict=True))
            replay = Replay(program, by_leaf, key())
            try:
                differing = _differing(replay, program.rounding(), params, norms, cuts, reduction)
            except ReplayError as error:
                failures.append(str(error))
                continue
            if not differing:
                constant = enumerate(by_leaf.items())
                return {at: leaves[leaf] for at, (leaf, axis) in constant if axis is None}
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
        if leaf.dim() == 0 and id(leaf) not in program.inputs and not _is_parameter(leaf):
            raise MixedSamplesError(
                "PrivacyEngine: expected a loss of the batch but a tensor of one number in it "
                f"({leaf}) comes from elsewhere, perhaps computed from the whole batch; use a "
                "Python number for a constant."
            )


def _is_parameter(leaf: Tensor) -> bool:
    """Whether ``leaf`` belongs to a network: then no sample is in it, and it may be updated."""
    return isinstance(leaf, nn.Parameter)


def _axes(leaf: Tensor, size: int, is_input: bool) -> list[int | None]:
    """The axis of samples, and what else it may be. One that fits is taken for samples.

    Fresh public data beside each sample are of this kind: they change from batch to batch.
    """
    if is_input:
        return [0]
    if _is_parameter(leaf):
        return [None]
    return [*(axis for axis, n in enumerate(leaf.shape) if n == size), None]


def _guesses(options: list[list[int | None]]) -> list[tuple[int | None, ...]]:
    """Those with samples in many leaves come first; at last, none but the inputs has any."""
    several = list(islice(product(*options), _MOST_LISTED))
    fewest_constants = sorted(several, key=lambda axes: sum(axis is None for axis in axes))
    return [*fewest_constants[:_MOST_GUESSES], tuple(option[-1] for option in options)]


def _differing(
    replay: Replay,
    rounding: float,
    params: Tensors,
    norms: Tensor,
    cuts: list[tuple[Tensor, Tensor]],
    reduction: str,
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


def _cuts(size: int, few_times: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch cut in two, and a few samples cut in two, several times.

    Parts of unequal size: equal ones hide whether a loss is a mean or a sum. Few samples: many
    have the same average of whatever mixes them. All of them: a few may not show what is rare.
    """
    order = permutation(key(), size) if size > 1 else torch.tensor([0, 0])
    cut = max(1, len(order) // 3)
    yield order[:cut], order[cut:]
    for _ in range(few_times):
        few = permutation(key(), size)[torch.arange(3) % size]
        yield few[:1], few[1:]


class LossCheck:
    """Looks at the loss of a loop in its first batch, after 1, 2, 4, 8, ... and when it changes.

    In every batch the numbers that the loss is multiplied with must be those of the first one.
    """

    def __init__(self, reduction: str) -> None:
        self._reduction = reduction
        self._seen = 0
        self._numbers: dict[int, list[float]] = {}
        self._constants: dict[tuple[int, str], Tensor] = {}

    def look(self, program: Program, norms: Tensor, forward: WatchedForward) -> None:
        """MixedSamplesError where the loss is not made of one term for each sample.

        ``norms``: see `require_separable`.
        """
        numbers = program.numbers()
        known = self._numbers.get(len(numbers))
        if known is not None and known != numbers:
            raise MixedSamplesError(
                "PrivacyEngine: expected the same numbers in the loss of every batch but got "
                f"{numbers} where it was {known}: a number that depends on the batch, such as "
                "len(x), mixes samples. Use .mean() and "
                'loss_reduction="mean", or a constant; for a schedule use PrivateGrad.'
            )
        with forward.whole(known is None or is_time_to_look(self._seen)) as params:
            if params is not None:
                with forward.undisturbed():
                    self._try(program, params, norms, numbers)
        self._numbers[len(numbers)] = numbers
        self._seen += 1

    def _try(self, program: Program, params: Tensors, norms: Tensor, numbers: list[float]) -> None:
        size = norms.shape[0]
        few_times = _LATER_LOOK if self._seen else _FIRST_LOOK
        constants = require_separable(program, params, norms, self._reduction, few_times=few_times)
        if self._reduction == "sum" and size > 1 and {size, 1 / size} & set(numbers):
            raise MixedSamplesError(
                f"PrivacyEngine: expected a sum over the {size} samples but it is multiplied or "
                f'divided by their number; use .mean() and loss_reduction="mean".'
            )
        for place, constant in constants.items():
            if _is_parameter(constant):
                continue
            known = (place, str(tuple(constant.shape)))
            before = self._constants.setdefault(known, constant.detach().clone())
            if not torch.equal(before, constant.detach()):
                raise MixedSamplesError(
                    "PrivacyEngine: expected a tensor that no sample is in to stay the same but "
                    f"one of shape {tuple(constant.shape)} in the loss has changed: if it is "
                    "computed from the batch it mixes samples. Compute it from the tensors of the "
                    "loader, or keep it fixed."
                )
