"""Which records a process works on: those of its shards, each drawn once."""

from torch import Tensor

from dpfunc.random.keys import Key
from dpfunc.sampling import poisson, shard_of


def records_of(
    key: Key, step: int, *, size: int, rate: float, own: range, shards: int
) -> list[Tensor]:
    """The records of `poisson` that are in each of the shards ``own``: int64 ``[B_v]``.

    ``own``: ``range(r, shards, W)`` for process r of W.
    """
    indices, _ = poisson(key, step, size=size, rate=rate, part=(own.start, own.step))
    shard = shard_of(indices, shards)
    return [indices[shard == number] for number in own]
