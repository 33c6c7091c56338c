"""Whether a sample's gradient stays where the others are replaced, in the numbers of the step.

A part of a batch is another shape, where other kernels round otherwise and may switch a ReLU. In
the same shape the same kernels run, and compute each row by itself: whatever the other samples are,
the gradient of a sample stays to the last bits. That is what clipping needs, in the very numbers
that are clipped. What depends on the number of samples alone does not show here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, leaf_norms
from dpfunc.persample.whole_batch.parts import Held, random_weights
from dpfunc.random.keys import key
from dpfunc.random.subsets import permutation

_ROUNDS = 3

GradientsOf = Callable[[Tensor], Mapping[str, Factored]]
"""``samples [B]``: the gradients of a batch with ``samples[i]`` of the batch in place i."""


def stay_where_others_are_replaced(
    held: Held, gradients: GradientsOf, first: Tensor | None = None
) -> bool:
    """Whether no sample's gradient changes: of single ones, of parts, and of the ``first``.

    Others become copies of the samples that stay. A gradient that is not finite, whose sample is
    dropped, has to stay so, and no other may become so. A sample that mixes with one other is on
    its side in 5 of 9 cuts: so there are several.
    """
    size, finite = len(held.norms), held.norms.isfinite().cpu()
    for kept in _kept(size, first):
        if len(kept) == 0 or len(kept) == size:
            continue
        samples = kept[permutation(key(), size) % len(kept)]
        samples[kept] = kept
        now = gradients(samples)
        if not torch.equal(global_norm(leaf_norms(now)).isfinite().cpu()[kept], finite[kept]):
            return False
        compared = kept[finite[kept]]
        own = random_weights(len(compared))
        weights = torch.zeros(size, dtype=own.dtype).index_copy_(0, compared, own)
        sums = held.of_all(weights), replace(held, grads=now).of_all(weights)
        if not held.equal(*sums, compared, own):
            return False
    return True


def _kept(size: int, first: Tensor | None) -> Iterator[Tensor]:
    if first is not None:
        yield torch.arange(size)[torch.isin(torch.arange(size), first)]
    for _ in range(_ROUNDS):
        order, cut = permutation(key(), size), max(1, size // 3)
        yield from (order[:1], order[:cut], order[cut:])
