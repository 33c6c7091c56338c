"""The weight gradient of a convolution, formed for each sample: positions times windows.

``fixed [B, N, R, *out]`` has a position for each window of ``moving [B, N, C, *space]``, which
contains its padding. ``gradient[r, c, k] = sum_t fixed[r, t] moving[c, t step + k gap]``.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Windows(NamedTuple):
    """Where the windows are, one number an axis: ``t step + k gap`` for k in ``kernel``."""

    kernel: tuple[int, ...]
    step: tuple[int, ...]
    gap: tuple[int, ...]


def by_patches(fixed: Tensor, moving: Tensor, windows: Windows, groups: int) -> Tensor:
    """``[B, R, C / groups, K]``: one product with a copy of all windows."""
    batch, _, rows, *out = fixed.shape
    axes = len(out)
    positions = fixed.flatten(3).unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(3)
    channels = moving.shape[2] // groups
    # Neighbouring windows are neighbours in memory, and so are the channels of a pixel where they
    # come last: copy along what is longer.
    if channels < 4 and all(step == 1 for step in windows.step):
        patches = _unfolded(moving, 3, windows).unflatten(2, (groups, channels))
        order = (0, 2, 3, *range(4 + axes, 4 + 2 * axes), 1, *range(4, 4 + axes))
        patches = patches.permute(order).flatten(3 + axes).flatten(2, 2 + axes)
        return torch.matmul(positions, patches.mT).view(batch, rows, channels, -1)
    last = moving.movedim(2, -1).contiguous()
    patches = _unfolded(last, 2, windows).unflatten(2 + axes, (groups, channels))
    order = (0, 2 + axes, 1, *range(2, 2 + axes), *range(4 + axes, 4 + 2 * axes), 3 + axes)
    patches = patches.permute(order).flatten(3 + axes).flatten(2, 2 + axes)
    return torch.matmul(positions, patches).view(batch, rows, -1, channels).mT


def by_shifts(fixed: Tensor, moving: Tensor, windows: Windows) -> Tensor:
    """The same of one image a sample and one group: a product for each offset of the kernel.

    An offset is a shift of the whole image. Positions are given as many columns as the image has,
    of zeros beyond their own, so that a shift in all axes is one along their flat order. With a
    step, pixels are sorted by their remainder first, so that positions are neighbours.
    """
    batch, _, rows, *out = fixed.shape
    lengths = [
        (kernel - 1) * gap // step + length
        for kernel, step, gap, length in zip(*windows, out, strict=True)
    ]
    pixels = _by_remainder(moving.squeeze(1), windows.step, lengths)
    strides = [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
    count = 1 + sum((length - 1) * stride for length, stride in zip(out, strides, strict=True))
    missing = [0, *(whole - part for whole, part in zip(lengths[1:], out[1:], strict=True))]
    positions = F.pad(fixed.squeeze(1), _at_the_ends(missing)).flatten(2)[..., :count]
    formed = fixed.new_empty(batch, math.prod(windows.kernel), rows, moving.shape[2])
    for index, offset in enumerate(itertools.product(*map(range, windows.kernel))):
        remainder, start = 0, 0
        for k, step, gap, stride in zip(offset, *windows[1:], strides, strict=True):
            remainder = remainder * step + k * gap % step
            start += k * gap // step * stride
        formed[:, index] = positions @ pixels[:, remainder, start : start + count]
    return formed.permute(0, 2, 3, 1)


def _unfolded(values: Tensor, first: int, windows: Windows) -> Tensor:
    """Spatial axes from ``first`` on, as positions; what each window sees comes last."""
    for axis, (kernel, step, gap) in enumerate(zip(*windows, strict=True), start=first):
        values = values.unfold(axis, gap * (kernel - 1) + 1, step)[..., ::gap]
    return values


def _by_remainder(moving: Tensor, step: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """``[B, remainders, pixels, C]`` of ``[B, C, *space]``: pixel ``q step + r`` is at (r, q)."""
    axes = len(step)
    wanted = [length * s for length, s in zip(lengths, step, strict=True)]
    values = F.pad(
        moving, _at_the_ends([w - n for w, n in zip(wanted, moving.shape[2:], strict=True)])
    )
    for axis, s in enumerate(step):
        values = values.unflatten(2 + 2 * axis, (-1, s))
    spread = values.permute(0, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2), 1)
    return spread.flatten(1, axes).flatten(2, 1 + axes)


def _at_the_ends(missing: Sequence[int]) -> list[int]:
    """What F.pad calls so many more (or fewer) numbers at the end of each axis."""
    return [number for more in reversed(missing) for number in (0, more)]
