"""The gradients that a batch is clipped by, against plain autograd on its parts.

Every sample gets a random weight. Held for the right samples, the per-sample gradients of the batch
with these weights add up to what plain autograd finds on parts of the batch, which run apart from
each other: single samples, a few together, and two parts of unequal size that are all of it.
Gradients that are another sample's, samples that mix, by numbers or by gradients alone, and losses
that are no sum over samples make a difference. Two sets of gradients that agree for random weights
of a continuous law are the same, except with probability zero.

Nobody is refused by this, as rounding may switch a ReLU: it is a cheap way to agree.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.persample.factors.closeness import tolerances
from dpfunc.persample.factors.forms import Factored, accumulable
from dpfunc.persample.factors.precision import full_precision
from dpfunc.persample.whole_batch.schedule import BRIEFLY_ALONE, FEW_SAMPLES, Due
from dpfunc.random.continuous import uniform
from dpfunc.random.keys import key
from dpfunc.random.subsets import permutation
from dpfunc.types import Tensors

_LARGEST = 3.0  # weight, and its inverse the smallest: none hides a sample

PartGradient = Callable[[Tensor, Tensor], Tensors]
"""``(samples, weights)``: the weighted gradient of these samples, run apart from all others."""


class PartsDifferError(RuntimeError):
    """A part cannot be run, or has other numbers than in the batch."""


@dataclass(frozen=True)
class Held:
    """``times`` the gradients that are held for the samples of a batch; ``norms [B]`` are theirs.

    ``rounding``: of the coarsest number on the way to them.
    """

    grads: Mapping[str, Factored]
    norms: Tensor
    rounding: float
    times: float = 1.0

    def of_few(self, samples: Tensor, weights: Tensor) -> Tensors:
        """The weighted sum over a few samples."""
        sums: Tensors = {}
        with full_precision():
            for sample, weight in zip(samples.tolist(), weights.tolist(), strict=True):
                for name, grad in self.grads.items():
                    row = accumulable(grad.take(slice(sample, sample + 1)).dense()[0])
                    row = row * (self.times * weight)
                    sums[name] = sums[name].add_(row) if name in sums else row
        return sums

    def of_all(self, weights: Tensor) -> Tensors:
        """The weighted sum over all samples."""
        weights = (self.times * weights).to(self.norms)
        with full_precision():
            return {name: grad.weighted_sum(weights) for name, grad in self.grads.items()}

    def equal(self, own: Tensors, plain: Tensors, samples: Tensor, weights: Tensor) -> bool:
        """Whether weighted sums over ``samples`` are equal up to rounding; not if any is NaN."""
        relative, small = tolerances(self.rounding)
        norms = self.norms[samples.to(self.norms.device)]
        floor = small * float((weights.to(norms) * norms).norm())
        pairs = [(own[name], grad.to(own[name].dtype)) for name, grad in plain.items()]
        expected = torch._foreach_norm([grad for _, grad in pairs])
        apart = torch._foreach_norm([one - other for one, other in pairs])
        allowed = relative * torch.stack(list(expected)).double() + floor
        return bool((torch.stack(list(apart)).double() <= allowed).all())


def disagreeing(held: Held, of_part: PartGradient, due: Due, *, together: int) -> Tensor | None:
    """None where parts of the batch have the gradients that are ``held`` for their samples.

    Else the few samples of a part that has not; none where it is a large part, or where it cannot
    be told: of one sample, or where a gradient is not finite, or all are zero. ``together``: so
    many times a few samples make a part.
    """
    unknown, size = torch.zeros(0, dtype=torch.int64), len(held.norms)
    if size == 1 and due == Due.CLOSELY:
        return unknown  # it is its only part
    if not bool(held.norms.isfinite().all()) or not bool(held.norms.any()):
        return unknown
    for few in _few(size, due, together):
        weights = random_weights(len(few))
        try:
            agree = held.equal(held.of_few(few, weights), of_part(few, weights), few, weights)
        except PartsDifferError:
            return few
        if not agree:
            return few
    if due < Due.CLOSELY:
        return None
    order, weights = permutation(key(), size), random_weights(size)
    cut = max(1, size // 3)
    try:
        left, right = (of_part(part, weights[part]) for part in (order[:cut], order[cut:]))
    except PartsDifferError:
        return unknown
    plain = {name: left[name] + right[name] for name in left}
    return None if held.equal(held.of_all(weights), plain, torch.arange(size), weights) else unknown


def _few(size: int, due: Due, together: int) -> Iterator[Tensor]:
    """Single samples, and a few together; briefly, fewer single ones."""
    closely = due == Due.CLOSELY
    for sample in permutation(key(), size)[: FEW_SAMPLES if closely else BRIEFLY_ALONE]:
        yield sample.reshape(1)
    for _ in range(together if closely else 0):
        yield permutation(key(), size)[:FEW_SAMPLES]


def random_weights(size: int) -> Tensor:
    """Random numbers between 1/3 and 3, in float64, of either sign: their logarithms are uniform.

    With one sign, gradients that are alike would add up, and hide two that are held for each other.
    """
    logarithms = (2 * uniform(key(), (size,), dtype=torch.float64) - 1) * math.log(_LARGEST)
    signs = torch.where(uniform(key(), (size,), dtype=torch.float64) < 0.5, -1.0, 1.0)
    return signs * logarithms.exp()
