"""A known structure in other lengths: its places, from one forward pass of a few samples."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from dpfunc.persample.batches.batch import batch_size, map_tensors
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.whole_batch.draws import Draws
from dpfunc.persample.whole_batch.places import Places, Seen, is_same_way
from dpfunc.persample.whole_batch.schedule import FEW_SAMPLES, Learned
from dpfunc.persample.whole_batch.sizes import repeated, size_that_divides_none, sizes_of
from dpfunc.persample.whole_batch.verify import choose, require_unchanged
from dpfunc.random.keys import key
from dpfunc.types import Tensors

WayOf = Callable[[Batched, Tensors, tuple[Any, ...], Places], tuple[Seen, ...]]


def in_these_lengths(
    loss_fn: Batched, way_of: WayOf, params: Tensors, batch: tuple[Any, ...], like: Learned
) -> Learned | None:
    """The places in the lengths of ``batch``; None unless it takes the way of ``like``.

    Were a length by chance a multiple of the number of samples, it would be taken for samples here
    and not there.
    """
    chosen = choose(batch_size(batch), FEW_SAMPLES)
    different = len(chosen)
    few = map_tensors(lambda values: values[chosen.to(values.device)], batch)
    sizes, _ = sizes_of(loss_fn, params, batch, like)
    size = size_that_divides_none(sizes - {0, 1}, different + 1)
    in_turn = repeated(few, different, size)
    draws = Draws(key(), torch.arange(size) % different)
    with draws if like.draws else nullcontext():  # a mode is asked about each operation
        seen = way_of(loss_fn, params, in_turn, Places(size))
    require_unchanged(in_turn)
    if not is_same_way(seen, like.seen):
        return None
    return like._replace(seen=seen, different=different, draws=tuple(draws.places))
