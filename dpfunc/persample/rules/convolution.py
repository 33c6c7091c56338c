"""Convolutions and transposed convolutions in one to three dimensions."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.factors.convolution import Convolution, Geometry, convolution_backward
from dpfunc.persample.factors.cost import worth_forming
from dpfunc.persample.factors.forms import Dense, Factored, accumulable
from dpfunc.persample.factors.precision import autocast_dtype
from dpfunc.persample.watching.capture import Rule, Tape


def _convolution(
    function: Any,
    tape: Tape,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    axes = weight.dim() - 2
    padding = _numbers(padding, weight, dilation)
    if tape.name(input) or not tape.name(weight) or padding is None:
        return NotImplemented
    if not tape.weights_of_all(bias):
        return NotImplemented
    geometry = Geometry(
        _per_axis(stride, axes), padding, _per_axis(dilation, axes), False, (0,) * axes, groups
    )
    options = (stride, padding, dilation, groups)
    return _run(function, tape, input, weight, bias, options, geometry)


def _transposed(
    function: Any,
    tape: Tape,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    axes = weight.dim() - 2
    if tape.name(input) or not tape.name(weight) or not tape.weights_of_all(bias):
        return NotImplemented
    geometry = Geometry(
        _per_axis(stride, axes),
        _per_axis(padding, axes),
        _per_axis(dilation, axes),
        True,
        _per_axis(output_padding, axes),
        groups,
    )
    options = (stride, padding, output_padding, groups, dilation)
    return _run(function, tape, input, weight, bias, options, geometry)


def _run(
    function: Any,
    tape: Tape,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: tuple[Any, ...],
    geometry: Geometry,
) -> Tensor:
    axes, frozen = weight.dim() - 2, weight.detach()
    operation = _Convolve(function, frozen, tape.frozen(bias), options, geometry)

    def of_weight(read: Tensor, grad: Tensor) -> Factored:
        factor = Convolution(_images(read, axes), _images(grad, axes), frozen, geometry)
        held = factor.inputs[0].numel() + factor.grads[0].numel()
        return Dense(factor.dense()) if worth_forming(frozen.numel(), held) else factor

    def of_bias(_: Tensor, grad: Tensor) -> Factored:
        return Dense(accumulable(_images(grad, axes)).flatten(3).sum((1, 3)))

    uses = ((weight, of_weight), (bias, of_bias))
    if autocast_dtype(input.device) is not None:
        return tape.tap(function(input, frozen, tape.frozen(bias), *options), input, *uses)
    return tape.run(operation, input, *uses)


@dataclass(frozen=True)
class _Convolve:
    """A convolution of images ``[B, C, *space]`` or ``[B, N, C, *space]``."""

    function: Any
    weight: Tensor
    bias: Tensor | None
    options: tuple[Any, ...]
    geometry: Geometry

    def run(self, read: Tensor) -> Tensor:
        output: Tensor = self.function(self._flat(read), self.weight, self.bias, *self.options)
        lead = read.shape[: -self.weight.dim() + 1]
        shape = (*lead, *output.shape[1:])
        return output if len(lead) == 1 else torch.ops.aten._unsafe_view(output, shape)

    def pull(self, read: Tensor, grad: Tensor) -> Tensor:
        pulled = convolution_backward(
            self._flat(read), self._flat(grad), self.weight, self.geometry, of_weight=False
        )
        return pulled.view(read.shape)

    def _flat(self, values: Tensor) -> Tensor:
        """``[images, C, *space]``."""
        return values if values.dim() == self.weight.dim() else values.flatten(0, 1)


def _images(values: Tensor, axes: int) -> Tensor:
    """``[B, N, C, *space]`` of values with or without the axis N."""
    return values if values.dim() == axes + 3 else values.unsqueeze(1)


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _numbers(padding: Any, weight: Tensor, dilation: Any) -> tuple[int, ...] | None:
    """The padding as one number an axis; None where it differs between the two ends of one."""
    sizes = weight.shape[2:]
    if padding == "valid":
        return (0,) * len(sizes)
    if padding != "same":
        return _per_axis(padding, len(sizes))
    both = [d * (k - 1) for d, k in zip(_per_axis(dilation, len(sizes)), sizes, strict=True)]
    return None if any(total % 2 for total in both) else tuple(total // 2 for total in both)


CONVOLUTION_RULES: dict[Any, Rule] = {
    **{f: Rule(partial(_convolution, f)) for f in (F.conv1d, F.conv2d, F.conv3d)},
    **{
        f: Rule(partial(_transposed, f))
        for f in (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    },
}
