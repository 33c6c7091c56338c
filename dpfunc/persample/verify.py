"""A loss of the whole batch, run on a few samples: where its samples are, and whether they mix."""

import math
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.batch import batch_size, map_tensors, take
from dpfunc.persample.capture import replace_tensors
from dpfunc.persample.chance import Chance
from dpfunc.persample.dense import loss_and_grad
from dpfunc.persample.factors import Factored
from dpfunc.persample.loss import Batched
from dpfunc.persample.places import Places, Seen
from dpfunc.types import Tensors

FEW_SAMPLES = 3
"""So many samples are compared with themselves in a batch of one."""


class Learned(NamedTuple):
    """``seen``: see `Places`. ``different``: from how many different samples it is."""

    seen: tuple[Seen, ...]
    different: int


RunRows = Callable[[Places, Tensors, tuple[Any, ...]], tuple[dict[str, Factored], Tensor]]
"""The factored gradients and losses of a batch whose places are given, or learned on the way."""


def learned_places(
    loss_fn: Batched, run: RunRows, params: Tensors, batch: tuple[Any, ...], samples: int
) -> Learned:
    """The places of ``loss_fn``'s tensors, from the first ``samples`` of ``batch``.

    RuntimeError where the loss of a sample depends on the others.
    """
    different = min(samples, batch_size(batch))
    with Chance("none"):
        pair = repeated(batch, different, max(2, different))
        size = _size_that_divides_none(_sizes_in(loss_fn, params, pair), different)
        places = Places(size)
        grads, losses = run(places, params, repeated(batch, different, size))
        for sample in range(min(FEW_SAMPLES, different)):
            alone = loss_and_grad(loss_fn, params, take(batch, slice(sample, sample + 1)))
            inside = {name: grad.take(slice(sample, sample + 1)) for name, grad in grads.items()}
            _require_equal(sample, losses[sample], inside, *alone)
    return Learned(places.finish(), different)


def repeated(batch: tuple[Any, ...], different: int, size: int) -> tuple[Any, ...]:
    """A batch of ``size`` samples out of the first ``different`` ones, in turn."""

    def repeat(values: Tensor) -> Tensor:
        return values[torch.arange(size, device=values.device) % different]

    repeated_batch: tuple[Any, ...] = map_tensors(repeat, batch)
    return repeated_batch


class _Sizes(TorchFunctionMode):
    """Notes the length of every axis that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        replace_tensors((args, kwargs, result), lambda values: self.seen.update(values.shape))
        return result


def _sizes_in(loss_fn: Batched, params: Tensors, batch: tuple[Any, ...]) -> set[int]:
    sizes = _Sizes()
    with torch.no_grad(), sizes:
        loss_fn(params, *batch)
    return {size for size in sizes.seen if size > 1}


def _size_that_divides_none(sizes: set[int], at_least: int) -> int:
    """The first prime that divides none of ``sizes``: it is in an axis by the samples alone."""
    for size in count(max(3, at_least)):
        prime = all(size % n for n in range(2, math.isqrt(size) + 1))
        if prime and all(other % size for other in sizes):
            return size
    raise AssertionError("there are more primes than sizes")


def _require_equal(
    sample: int, loss: Tensor, grads: dict[str, Factored], loss_alone: Tensor, alone: Tensors
) -> None:
    """RuntimeError unless both are one sample's loss and gradient, up to rounding."""
    rounding = math.sqrt(torch.finfo(loss_alone.dtype).eps)
    total = math.sqrt(sum(float(grad.double().square().sum()) for grad in alone.values()))
    differing = [
        name
        for name, grad in alone.items()
        if not _close(grads[name].dense()[0], grad, rounding, floor=rounding**2 * 100 * total)
    ]
    if differing or not _close(loss, loss_alone, rounding, floor=rounding**2 * 100):
        raise RuntimeError(
            f"batched: expected sample {sample} to have the same loss and gradient alone as in a "
            f"batch but the loss is {float(loss_alone):.6g} alone and {float(loss):.6g} in a "
            f"batch, and the gradient differs for {differing[:5] or 'no parameter'}: samples are "
            "mixed (BatchNorm, a mean over the tokens of the whole batch), chance is involved, or "
            "samples do not lie in order on one axis. Reduce every sample on its own."
        )


def _close(actual: Tensor, expected: Tensor, relative: float, *, floor: float) -> bool:
    """Equal in L2 norm, NaN to NaN."""
    actual, expected = actual.double(), expected.double()
    if not bool(expected.isfinite().all()):
        return torch.equal(actual.isfinite(), expected.isfinite())
    return float((actual - expected).norm()) <= relative * float(expected.norm()) + floor
