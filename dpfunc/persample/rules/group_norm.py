"""Group normalisation: the gradients of scale and shift from the backward that runs anyway."""

from typing import NamedTuple

import torch
from torch import Tensor

from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.factors.precision import autocast_dtype
from dpfunc.persample.rules.linear import in_shape

_FLOATS = (torch.float32, torch.float64)  # half precision is to be added up in float32


def of_one_pass(*tensors: Tensor | None) -> bool:
    """Whether `GroupNorm` serves for these input, scale and shift."""
    dtypes = {values.dtype for values in tensors if values is not None}
    plain = all(autocast_dtype(values.device) is None for values in tensors if values is not None)
    return plain and len(dtypes) == 1 and dtypes.issubset(_FLOATS)


def images_of(values: Tensor, axes: int) -> Tensor:
    """``[..., *image]`` as ``[images, *image]``, an image being the last ``axes`` axes."""
    return values.reshape(-1, *values.shape[values.dim() - axes :])


def _as_one(images: Tensor) -> Tensor:
    return images.contiguous().view(1, -1, *images.shape[2:])


class _Pulled(NamedTuple):
    """What one backward gives for ``[images, C, *space]``, and of which tensors."""

    read: Tensor
    grad: Tensor
    of_input: Tensor
    of_scale: Tensor  # [images, C]
    of_shift: Tensor


class GroupNorm:
    """Every channel of every image is taken for a channel of its own, of one large image.

    Channels have a scale and a shift each: so the gradients of the two come for each image, from
    the same pass that makes the gradient of the input.
    """

    def __init__(
        self,
        axes: int,
        groups: int,
        scale: Tensor,
        shift: Tensor | None,
        eps: float,
        *,
        in_rows: bool,
    ) -> None:
        """``axes``: of an image, with its channels. ``in_rows``: what is noted is what was run."""
        self._axes, self._groups, self._eps = axes, groups, eps
        self._scale, self._shift = scale, shift
        self._in_rows = in_rows
        self._stats: tuple[Tensor, Tensor] | None = None
        self._pulled: _Pulled | None = None

    def run(self, read: Tensor) -> Tensor:
        output, *stats = self._forward(images_of(read, self._axes))
        if self._in_rows:
            self._stats = stats[0], stats[1]
        return in_shape(output, read.shape)

    def pull(self, read: Tensor, grad: Tensor) -> Tensor:
        pulled = self._backward(read, grad)
        self._pulled = None  # nobody asks again
        return pulled.of_input.view(read.shape)

    def of_scale(self, read: Tensor, grad: Tensor) -> Factored:
        return self._of_sample(self._backward(read, grad).of_scale, len(read))

    def of_shift(self, read: Tensor, grad: Tensor) -> Factored:
        return self._of_sample(self._backward(read, grad).of_shift, len(read))

    def _of_sample(self, of_image: Tensor, size: int) -> Factored:
        return Dense(of_image.view(size, -1, of_image.shape[1]).sum(1))

    def _large_image(self, images: Tensor) -> tuple[int, int, int, int]:
        """Its count, channels, pixels and groups."""
        count, channels = images.shape[:2]
        pixels = images[0, 0].numel()
        return 1, count * channels, pixels, count * self._groups

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = len(images)
        shift = None if self._shift is None else self._shift.repeat(count)
        output, mean, rstd = torch.ops.aten.native_group_norm(
            _as_one(images),
            self._scale.repeat(count),
            shift,
            *self._large_image(images),
            self._eps,
        )
        return output, mean, rstd

    def _backward(self, read: Tensor, grad: Tensor) -> _Pulled:
        read, grad = images_of(read, self._axes), images_of(grad, self._axes)
        known = self._pulled
        if known is not None and _are_same(known.read, read) and _are_same(known.grad, grad):
            return known
        stats = self._forward(read)[1:] if self._stats is None else self._stats
        of_input, of_scale, of_shift = torch.ops.aten.native_group_norm_backward(
            _as_one(grad),
            _as_one(read),
            *stats,
            self._scale.repeat(len(read)),
            *self._large_image(read),
            [True, True, True],
        )
        shape = read.shape[:2]
        self._pulled = _Pulled(
            read, grad, of_input.view(read.shape), of_scale.view(shape), of_shift.view(shape)
        )
        return self._pulled


def _are_same(left: Tensor, right: Tensor) -> bool:
    """Whether both are the same view of the same memory."""
    alias: bool = torch._C._is_alias_of(left, right)  # type: ignore[attr-defined]  # made in C++
    return (
        alias
        and left.storage_offset() == right.storage_offset()
        and left.shape == right.shape
        and left.stride() == right.stride()
    )
