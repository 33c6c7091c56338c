"""The microbatches of all processes are the one Poisson batch: each record in it, once."""

import pytest

import dpfunc as dp
from dpfunc.engine.batches import drawn

KEY, SIZE, RATE = dp.key(3), 200, 0.1


@pytest.mark.parametrize("microbatch_size", [None, 3])
@pytest.mark.parametrize(("shards", "world"), [(1, 1), (12, 1), (12, 2), (12, 4), (3, 3)])
def test_each_record_of_the_batch_comes_once(shards, world, microbatch_size):
    sampler = dp.sampling.Poisson(size=SIZE, rate=RATE)
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
        indices, _ = dp.sampling.poisson(KEY, step, size=SIZE, rate=RATE)
        assert sorted(found) == indices.tolist()
        assert all(last == [False] * (len(last) - 1) + [True] for last in lasts)
