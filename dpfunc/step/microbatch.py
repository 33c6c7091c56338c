"""The data half of a step in microbatches: how many samples at a time, and joining the parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import batch_device, map_tensors, slices, take
from dpfunc.persample.batches.shapes import shapes_alone
from dpfunc.step.memory import largest_fitting, peak_bytes
from dpfunc.types import State, Summed, Tensors


class Aux(NamedTuple):
    """What a step saw of its samples, masked ones included. NOT private: never publish it.

    ``losses``: ``[B]``. ``norms``: ``[B]``, the L2 norm of each sample's gradient before clipping.
    """

    losses: Tensor
    norms: Tensor

    @property
    def dropped(self) -> Tensor:
        """``[B]``: whose norm was not finite, and who added zero. All, once a model diverged."""
        return ~self.norms.isfinite()


class Part(NamedTuple):
    """What one microbatch contributes, or several joined. Not private: no noise is in it yet."""

    summed: Summed
    norms: Tensors
    losses: Tensor


ClippedSum = Callable[[Tensors, tuple[Any, ...], State, Tensor], Part]
"""``(params, args, clip_state, mask) -> Part``: see `PrivateGrad.clipped_sum`."""


def joined(left: Part, right: Part) -> Part:
    """Two disjoint parts of one batch. A sample is in one of them, so the bound stays.

    In float64: parts of one sample each are then added almost exactly, whatever their number.
    """
    values = {
        name: value.to(torch.float64) + right.summed.values[name]
        for name, value in left.summed.values.items()
    }
    return Part(
        Summed(values, max(left.summed.bound, right.summed.bound)),
        {name: torch.cat([norm, right.norms[name]]) for name, norm in left.norms.items()},
        torch.cat([left.losses, right.losses]),
    )


def in_microbatches(
    clipped_sum: ClippedSum,
    params: Tensors,
    args: tuple[Any, ...],
    clip_state: State,
    mask: Tensor,
    microbatch_size: int | None,
) -> Part:
    """``clipped_sum`` of the whole batch, so many samples at a time; None for all at once."""
    detached = {name: param.detach() for name, param in params.items()}

    def of_slice(where: slice) -> Part:
        return clipped_sum(detached, take(args, where), clip_state, mask[where])

    first, *others = slices(mask.shape[0], microbatch_size)
    total = of_slice(first)
    for where in others:  # functools.reduce would keep the last two parts meanwhile
        total = joined(total, of_slice(where))
    return total


def largest_microbatch(
    clipped_sum: ClippedSum,
    params: Tensors,
    args: tuple[Any, ...],
    clip_state: State,
    most: int,
    budget: int,
) -> int:
    """The most samples at a time, up to ``most``, whose sum holds at most ``budget`` bytes."""

    def peak_of(size: int) -> int:
        """Of two microbatches, so that joining them counts."""
        with shapes_alone() as like:
            shapes: Tensors = {
                name: like.from_tensor(param.detach()) for name, param in params.items()
            }
            batch = map_tensors(lambda part: _like(part, 2 * size), args)
            mask = torch.ones(2 * size, dtype=torch.bool, device=batch_device(args))
            return peak_bytes(
                lambda: in_microbatches(clipped_sum, shapes, batch, clip_state, mask, size)
            )

    return largest_fitting(peak_of, most, budget)


def _like(part: Tensor, size: int) -> Tensor:
    return torch.empty((size, *part.shape[1:]), dtype=part.dtype, device=part.device)
