"""Per-sample gradients of a convolution's weight, from its input and its output's gradient."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.factors.cost import (
    form_in_slices,
    prefers_groups,
    prefers_pixel_gram,
    prefers_shifts,
)
from dpfunc.persample.factors.forms import (
    accumulable,
    accumulation_dtype,
    at_least_rounding,
    keep,
    row_norm_sq,
    weigh,
)
from dpfunc.persample.factors.windows import Windows, by_patches, by_shifts


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


def by_groups(inputs: Tensor, grads: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The gradient of the weight for each sample of ``[B, N, C, *space]``: ``[B, *weight]``.

    The samples are put side by side as groups of channels, which a convolution keeps apart.
    """
    samples = len(inputs)
    images, grads = (part.transpose(0, 1).flatten(1, 2) for part in (inputs, grads))
    weights = weight.new_empty((samples * weight.shape[0], *weight.shape[1:]), dtype=images.dtype)
    apart = geometry._replace(groups=samples * geometry.groups)
    return convolution_backward(images, grads, weights, apart, of_weight=True).view(
        samples, *weight.shape
    )


def _sum_along_both(
    gram: Tensor, axis: int, apart: int, kernel: int, step: int, gap: int, length: int
) -> Tensor:
    """``sum_k gram[.., k gap + step t, .., k gap + step s, ..]`` on ``axis`` and on its twin."""

    def at(offset: int) -> Tensor:
        where = slice(offset, offset + step * (length - 1) + 1, step)
        before = (slice(None),) * axis
        return gram[(*before, where, *(slice(None),) * (apart - 1), where)]

    total = at(0)
    for k in range(1, kernel):
        total = total + at(k * gap) if k == 1 else total.add_(at(k * gap))
    return total


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
        pixels = self._padded_pixels()
        if self.geometry.groups == 1 and prefers_pixel_gram(
            self._positions(), pixels, self.weight.shape[0], tuple(self.weight.shape[1:])
        ):
            norm_sq = form_in_slices(
                lambda where: self.take(where)._gram_norm_sq(), self.grads, pixels * pixels
            )
        else:
            norm_sq = form_in_slices(
                lambda where: row_norm_sq(self.take(where).dense()),
                self.grads,
                self.weight.numel(),
            )
        return at_least_rounding(norm_sq, self.sizes())

    def sizes(self) -> Tensor:
        """Of the products of a position with its patch, over all channels."""
        fixed, moving = (
            accumulable(part).square().sum(2) for part in (self._fixed(), self._moving())
        )
        shape, axes = self.weight.shape[2:], self.weight.dim() - 2
        patches = torch.convolution(
            moving.flatten(0, 1).unsqueeze(1),
            moving.new_ones((1, 1, *shape)),
            None,
            self.geometry.stride,
            self.geometry.padding,
            self.geometry.dilation,
            False,
            (0,) * axes,
            1,
        )
        inside = (slice(None), *map(slice, fixed.shape[2:]))  # output padding may make more of them
        patches = patches.squeeze(1)[inside].reshape(fixed.shape)
        return (fixed * patches).sqrt().flatten(1).sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        inputs = keep(self.inputs, weights).flatten(0, 1)
        grads = weigh(self.grads, weights).flatten(0, 1)
        return self._weight_grad(inputs, grads)

    def dense(self) -> Tensor:
        formed = form_in_slices(
            lambda where: self.take(where)._formed(), self.grads, self._numbers_to_form()
        )
        gradients: Tensor = formed.unflatten(3, self.weight.shape[2:])
        return gradients

    def take(self, where: slice) -> "Convolution":
        return Convolution(self.inputs[where], self.grads[where], self.weight, self.geometry)

    def _fixed(self) -> Tensor:
        """What the kernel multiplies with windows of `_moving`.

        A transposed convolution is a convolution from its output to its input.
        """
        return self.inputs if self.geometry.transposed else self.grads

    def _moving(self) -> Tensor:
        """Without its padding."""
        return self.grads if self.geometry.transposed else self.inputs

    def _positions(self) -> int:
        fixed = self._fixed()
        return fixed.shape[1] * math.prod(fixed.shape[3:])

    def _fixed_and_padded(self) -> tuple[Tensor, Tensor]:
        padding = [p for p in reversed(self.geometry.padding) for _ in "lr"]
        return accumulable(self._fixed()), F.pad(accumulable(self._moving()), padding)

    def _padded_pixels(self) -> int:
        moving = self._moving()
        padded = zip(moving.shape[3:], self.geometry.padding, strict=True)
        return moving.shape[1] * math.prod(length + 2 * padding for length, padding in padded)

    def _gram_norm_sq(self) -> Tensor:
        """The Gram form without patches: their Gram matrix is a sum over the pixels' own.

        ``<patch_t, patch_s> = sum_k <pixel_{t+k}, pixel_{s+k}>`` over the offsets k of the kernel,
        one axis at a time.
        """
        fixed, moving = self._fixed_and_padded()
        size, images, _, *out = fixed.shape
        columns = fixed.transpose(1, 2).flatten(2)  # [B, rows, T]
        pixels = moving.transpose(1, 2).flatten(2)
        shape = (images, *moving.shape[3:])
        patches = (pixels.mT @ pixels).view(size, *shape, *shape)
        geometry = (self.weight.shape[2:], self.geometry.stride, self.geometry.dilation, out)
        for axis, (kernel, step, gap, length) in enumerate(zip(*geometry, strict=True)):
            patches = _sum_along_both(patches, 2 + axis, len(shape), kernel, step, gap, length)
        gram = (columns.mT @ columns).mul_(patches.reshape(size, columns.shape[2], -1))
        return gram.sum((1, 2)).clamp_(min=0.0)  # rounding may leave a zero slightly negative

    def _weight_grad(self, inputs: Tensor, grads: Tensor) -> Tensor:
        weight = self.weight.to(inputs.dtype)
        return convolution_backward(inputs, grads, weight, self.geometry, of_weight=True)

    def _formed(self) -> Tensor:
        """``[B, rows, columns, K]``."""
        if self._is_grouped():
            inputs, grads = accumulable(self.inputs), accumulable(self.grads)
            return by_groups(inputs, grads, self.weight, self.geometry).flatten(3)
        fixed, moving = self._fixed_and_padded()
        windows = Windows(self.weight.shape[2:], self.geometry.stride, self.geometry.dilation)
        if self._is_shifted():
            return by_shifts(fixed, moving, windows)
        return by_patches(fixed, moving, windows, self.geometry.groups)

    def _is_grouped(self) -> bool:
        stride, groups = self.geometry.stride, self.geometry.groups
        moving = self._moving()
        if not have_numbers(moving):  # a graph is recorded: compiled, patches are fused away
            return False
        channels, dtype = moving.shape[2] // groups, accumulation_dtype(moving.dtype)
        return prefers_groups(channels, stride, groups, dtype, moving.device)

    def _is_shifted(self) -> bool:
        rows, columns = self.weight.shape[:2]
        one = self.grads.shape[1] == self.geometry.groups == 1
        return one and prefers_shifts(columns, self._positions(), rows)

    def _numbers_to_form(self) -> int:
        """See `_formed`."""
        if self._is_grouped():
            return self.weight.numel()
        if self._is_shifted():
            return self._positions() * (self.weight.shape[0] + self.weight.shape[1])
        return self._positions() * math.prod(self.weight.shape[1:]) * self.geometry.groups
