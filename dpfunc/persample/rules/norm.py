"""Normalisations with a learned scale and shift: layer, RMS, group, instance, batch in eval mode.

For ``y = scale * normalised(x) + shift`` the gradient of the scale is the sum over positions of
``g * normalised(x)``, whose second factor is computed anew in backward rather than kept.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.factors.forms import Dense, Factored, accumulable
from dpfunc.persample.rules.group_norm import GroupNorm, images_of, of_one_pass
from dpfunc.persample.watching.capture import Factor, Rule, Tape

_Normalise = Callable[[Tensor], Tensor]


def _over_last_axes(normalise: _Normalise, axes: int) -> tuple[Factor, Factor]:
    """The factors of a scale and of a shift over the last ``axes`` axes."""

    def summed(values: Tensor) -> Factored:
        shape = values.shape[values.dim() - axes :]
        return Dense(values.reshape(len(values), -1, *shape).sum(1))

    def of_scale(read: Tensor, grad: Tensor) -> Factored:
        return summed(accumulable(grad) * normalise(accumulable(read)))

    return of_scale, lambda _, grad: summed(accumulable(grad))


def _over_channels(normalise: _Normalise, axes: int) -> tuple[Factor, Factor]:
    """The same for channels, the first of the last ``axes`` axes."""

    def summed(values: Tensor, size: int) -> Factored:
        return Dense(values.reshape(size, -1, values.shape[1], values[0, 0].numel()).sum((1, 3)))

    def of_scale(read: Tensor, grad: Tensor) -> Factored:
        normalised = normalise(images_of(accumulable(read), axes))
        return summed(normalised.mul_(images_of(accumulable(grad), axes)), len(read))

    return of_scale, lambda read, grad: summed(images_of(accumulable(grad), axes), len(read))


def _layer_norm(
    tape: Tape,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    if tape.name(input) or not tape.weights_of_all(weight, bias):
        return NotImplemented
    shape = list(normalized_shape)
    output = F.layer_norm(input, shape, tape.frozen(weight), tape.frozen(bias), eps)
    of_scale, of_shift = _over_last_axes(lambda x: F.layer_norm(x, shape, eps=eps), len(shape))
    return tape.tap(output, input, (weight, of_scale), (bias, of_shift))


def _rms_norm(
    tape: Tape,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Any:
    if tape.name(input) or not tape.weights_of_all(weight):
        return NotImplemented
    shape = list(normalized_shape)
    # The default of eps is that of the dtype in which PyTorch computes: at least float32, as here.
    output = F.rms_norm(input, shape, tape.frozen(weight), eps)
    of_scale, _ = _over_last_axes(lambda x: F.rms_norm(x, shape, eps=eps), len(shape))
    return tape.tap(output, input, (weight, of_scale))


def _group_norm(
    tape: Tape,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    if tape.name(input) or not tape.weights_of_all(weight, bias):
        return NotImplemented
    if weight is not None and of_one_pass(input, weight, bias):
        options = (num_groups, tape.frozen(weight), tape.frozen(bias), eps)
        norm = GroupNorm(input.dim() - 1, *options, in_rows=tape.samples.mapped)
        return tape.run(norm, input, (weight, norm.of_scale), (bias, norm.of_shift))
    output = F.group_norm(input, num_groups, tape.frozen(weight), tape.frozen(bias), eps)
    of_scale, of_shift = _over_channels(
        lambda x: F.group_norm(x, num_groups, eps=eps), input.dim() - 1
    )
    return tape.tap(output, input, (weight, of_scale), (bias, of_shift))


def _batch_norm(
    tape: Tape,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if tape.name(input) or training or not tape.weights_of_all(weight, bias):
        return NotImplemented
    if not tape.weights_of_all(running_mean, running_var):
        return NotImplemented

    def normalise(x: Tensor) -> Tensor:
        mean, variance = (None if v is None else v.to(x.dtype) for v in (running_mean, running_var))
        return F.batch_norm(x, mean, variance, eps=eps)

    frozen = (tape.frozen(weight), tape.frozen(bias))
    output = F.batch_norm(input, running_mean, running_var, *frozen, eps=eps)
    of_scale, of_shift = _over_channels(normalise, input.dim() - 1)
    return tape.tap(output, input, (weight, of_scale), (bias, of_shift))


NORM_RULES = {
    F.layer_norm: Rule(_layer_norm),
    F.rms_norm: Rule(_rms_norm),
    F.group_norm: Rule(_group_norm),
    F.batch_norm: Rule(_batch_norm),
}
