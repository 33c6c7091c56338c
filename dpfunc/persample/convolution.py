"""Per-sample gradients of a convolution's weight, from its input and its output's gradient."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.cost import form_in_slices, loop_pays, prefers_gram
from dpfunc.persample.factors import keep, row_norm_sq, weigh
from dpfunc.persample.outer import Outer


class Geometry(NamedTuple):
    """The options of a convolution, one number a spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def convolution_backward(
    inputs: Tensor, grads: Tensor, weight: Tensor, geometry: Geometry, *, of_weight: bool
) -> Tensor:
    """The gradient of the weight, or else of the input, of a convolution of images."""
    results = torch.ops.aten.convolution_backward(
        grads,
        inputs,
        weight,
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.transposed,
        geometry.output_padding,
        geometry.groups,
        (not of_weight, of_weight, False),
    )
    grad: Tensor = results[1 if of_weight else 0]
    return grad


@dataclass(frozen=True)
class Convolution:
    """``inputs [B, N, C, *space]`` and ``grads [B, N, O, *out]`` of a convolution with ``weight``.

    N is the number of images a sample holds, usually 1. Only the shape of ``weight`` is used.
    """

    inputs: Tensor
    grads: Tensor
    weight: Tensor
    geometry: Geometry

    def norm_sq(self) -> Tensor:
        size, positions = self.grads.shape[0], self._positions()
        rows, columns = self.weight.shape[0], math.prod(self.weight.shape[1:])
        if self.geometry.groups == 1 and prefers_gram(positions, rows, columns):
            return form_in_slices(
                lambda where: self.take(where)._as_outer().norm_sq(), size, positions * columns
            )
        return form_in_slices(
            lambda where: row_norm_sq(self.take(where).dense()), size, self.weight.numel()
        )

    def weighted_sum(self, weights: Tensor) -> Tensor:
        inputs = keep(self.inputs, weights).flatten(0, 1)
        grads = weigh(self.grads, weights).flatten(0, 1)
        return self._weight_grad(inputs, grads)

    def dense(self) -> Tensor:
        columns = math.prod(self.weight.shape[1:])
        work = self._positions() * self.weight.numel()
        if loop_pays(work, self.grads.device):
            pairs = zip(self.inputs, self.grads, strict=True)
            return torch.stack([self._weight_grad(inputs, grads) for inputs, grads in pairs])
        return form_in_slices(
            lambda where: self.take(where)._from_patches(),
            self.grads.shape[0],
            self._positions() * columns * self.geometry.groups,
        )

    def take(self, where: slice) -> "Convolution":
        return Convolution(self.inputs[where], self.grads[where], self.weight, self.geometry)

    def _positions(self) -> int:
        fixed = self.inputs if self.geometry.transposed else self.grads
        return fixed.shape[1] * math.prod(fixed.shape[3:])

    def _weight_grad(self, inputs: Tensor, grads: Tensor) -> Tensor:
        weight = self.weight.to(inputs.dtype)
        return convolution_backward(inputs, grads, weight, self.geometry, of_weight=True)

    def _from_patches(self) -> Tensor:
        fixed, patches = self._positions_and_patches()
        return (fixed.mT @ patches).flatten(1, 2).reshape(-1, *self.weight.shape)

    def _as_outer(self) -> Outer:
        """The convolution as a linear map over its patches; for one group."""
        fixed, patches = self._positions_and_patches()
        return Outer(fixed.squeeze(1), patches.squeeze(1))

    def _positions_and_patches(self) -> tuple[Tensor, Tensor]:
        """``[B, groups, T, rows]`` and ``[B, groups, T, columns]``: their product is the gradient.

        A transposed convolution is a convolution from its output to its input.
        """
        fixed, moving = (self.grads, self.inputs)
        if self.geometry.transposed:
            fixed, moving = moving, fixed
        kernel = self.weight.shape[2:]
        axes, groups = len(kernel), self.geometry.groups
        windows = F.pad(moving, [p for p in reversed(self.geometry.padding) for _ in "lr"])
        for axis, (size, step, gap) in enumerate(
            zip(kernel, self.geometry.stride, self.geometry.dilation, strict=True)
        ):
            windows = windows.unfold(3 + axis, gap * (size - 1) + 1, step)[..., ::gap]
        windows = windows.unflatten(2, (groups, -1))  # [B, N, groups, channels, *out, *kernel]
        out, inner = range(4, 4 + axes), range(4 + axes, 4 + 2 * axes)
        if all(step == 1 for step in self.geometry.stride):
            # Neighbouring windows are neighbours in memory: copy along the positions.
            windows = windows.permute(0, 2, 3, *inner, 1, *out)
            patches = windows.flatten(3 + axes).flatten(2, 2 + axes).mT
        else:
            windows = windows.permute(0, 2, 1, *out, 3, *inner)
            patches = windows.flatten(3 + axes).flatten(2, 2 + axes)
        fixed = fixed.flatten(3).unflatten(2, (groups, -1)).permute(0, 2, 1, 4, 3).flatten(2, 3)
        return fixed, patches
