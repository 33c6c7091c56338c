"""Sampled batches for an ordinary loop: which samples, in which microbatches, and who fills up."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dpfunc.distributed.records import records_of
from dpfunc.persample.batches.batch import slices
from dpfunc.persample.batches.nested import tensors_in
from dpfunc.random.keys import Key
from dpfunc.sampling.scheme import Sampler as Scheme


class Drawn(NamedTuple):
    """A microbatch of the batch of ``step``. ``last``: no other one follows.

    ``indices``: of the samples; a batch without any has one that only fills up, as models and
    losses of no sample at all are errors. ``mask``: bool ``[B]``, False for that one. ``shard``: of
    the records, where a batch is cut into shards. ``number``: among those of the batch that this
    process has, from 0.
    """

    step: int
    indices: tuple[int, ...]
    mask: Tensor
    last: bool
    shard: int = 0
    number: int = 0


def drawn(
    key: Key,
    step: int,
    *,
    sampler: Scheme,
    microbatch_size: int | None,
    own: range = range(1),
) -> list[Drawn]:
    """The microbatches of the batch of ``step``: a function of the key and the step alone.

    ``own``: the shards of this process, ``range(r, shards, W)``; by default one of all records.
    """
    found: list[Drawn] = []
    shards = records_of(key, step, sampler=sampler, own=own, shards=own.stop)
    for shard, indices in zip(own, shards, strict=True):
        parts = [indices[part] for part in slices(len(indices), microbatch_size)]
        last = shard == own[-1]
        found += microbatches(step, parts, shard=shard, last=last, first=len(found))
    return found


def microbatches(
    step: int, chosen: Sequence[Tensor], *, shard: int = 0, last: bool = True, first: int = 0
) -> list[Drawn]:
    """One for the indices in each part of the batch of ``step``, where a part may be empty.

    ``last``: whether the batch ends with the last of them. ``first``: the number of the first.
    """
    return [
        Drawn(
            step,
            tuple(part.tolist()) or (0,),
            torch.full((max(1, len(part)),), len(part) > 0),
            last=last and number == len(chosen) - 1,
            shard=shard,
            number=first + number,
        )
        for number, part in enumerate(chosen)
    ]


class PoissonBatches(Sampler[list[int]]):
    """The ``batch_sampler`` of a DataLoader: so many sampled batches each time it is iterated.

    ``own``: see `drawn`. ``first_step``: tells where to begin. ``note``: gets each microbatch when
    it is drawn.
    """

    def __init__(
        self,
        key: Key,
        *,
        sampler: Scheme,
        steps: int,
        microbatch_size: int | None,
        own: range,
        first_step: Callable[[], int],
        note: Callable[[Drawn], None],
    ) -> None:
        self._key = key
        self._sampler = sampler
        self._steps = steps
        self._microbatch_size = microbatch_size
        self._own = own
        self._first_step = first_step
        self._note = note

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        first = self._first_step()
        for step in range(first, first + self._steps):
            for part in drawn(
                self._key,
                step,
                sampler=self._sampler,
                microbatch_size=self._microbatch_size,
                own=self._own,
            ):
                self._note(part)
                yield list(part.indices)


class PoissonLoader(DataLoader[Any]):
    """A DataLoader that announces each microbatch, with its tensors, as it hands it out.

    ``queue``: what its sampler has drawn, in order; it may be ahead. ``announce``: False ends it.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: PoissonBatches,
        queue: list[Drawn],
        announce: Callable[[Drawn, list[Tensor]], bool],
        **options: Any,
    ) -> None:
        self._queue = queue
        self._announce = announce
        super().__init__(dataset, batch_sampler=batches, **options)

    def __iter__(self) -> Any:
        self._queue.clear()
        for batch in super().__iter__():
            part = self._queue.pop(0)
            if not self._announce(part, tensors_in(batch)):
                return
            yield batch
