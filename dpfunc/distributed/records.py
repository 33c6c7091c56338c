"""Which records a process works on: those of its shards, each drawn once."""

from torch import Tensor

from dpfunc.random.keys import Key
from dpfunc.sampling import Poisson, poisson, shard_of
from dpfunc.sampling.scheme import Sampler


def records_of(key: Key, step: int, *, sampler: Sampler, own: range, shards: int) -> list[Tensor]:
    """The records of the step that are in each of the shards ``own``: int64 ``[B_v]``.

    ``own``: ``range(r, shards, W)`` for process r of W. Of Poisson samples each process draws its
    own alone; of others all, as the records of a step hang together.
    """
    if isinstance(sampler, Poisson):
        part = own.start, own.step
        indices, _ = poisson(key, step, size=sampler.size, rate=sampler.rate, part=part)
    else:
        indices, _ = sampler.batch(key, step)
    shard = shard_of(indices, shards)
    return [indices[shard == number] for number in own]
