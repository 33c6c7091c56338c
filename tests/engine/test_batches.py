"""The microbatches of all processes are the one batch of the step: each record in it, once."""

import pytest

import dpfunc as dp
from dpfunc.engine.batches import drawn

KEY, SIZE, RATE = dp.key(3), 200, 0.1


SAMPLERS = [
    dp.sampling.Poisson(size=SIZE, rate=RATE),
    dp.sampling.CyclicPoisson(size=SIZE, rate=0.5, cycle=4),
    dp.sampling.Shuffled(size=SIZE, batch_size=30),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("microbatch_size", [None, 3])
@pytest.mark.parametrize(("shards", "world"), [(1, 1), (12, 1), (12, 2), (12, 4), (3, 3)])
def test_each_record_of_the_batch_comes_once(shards, world, microbatch_size, sampler):
    for step in range(3):
        found, lasts = [], []
        for process in range(world):
            own = range(process, shards, world)
            parts = drawn(KEY, step, sampler=sampler, microbatch_size=microbatch_size, own=own)
            assert {part.shard for part in parts} == set(own)
            lasts.append([part.last for part in parts])
            found += [
                index
                for part in parts
                for index, counts in zip(part.indices, part.mask.tolist(), strict=True)
                if counts
            ]
        indices, _ = sampler.batch(KEY, step)
        assert sorted(found) == indices.tolist()
        assert all(last == [False] * (len(last) - 1) + [True] for last in lasts)
