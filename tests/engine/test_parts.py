"""A batch in parts is the batch of the step, part by part."""

import pickle

import pytest
import torch

import dpfunc as dp
from dpfunc.engine.parts import Parts

KEY = dp.key(5)


def samples_at(rate):
    return dp.sampling.Poisson(size=30, rate=rate)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_parts_are_the_batch(count):
    for step in range(20):
        whole, _ = dp.sampling.poisson(KEY, step, size=30, rate=0.1)
        parts = Parts(KEY, samples_at(0.1), count).of(step)
        sizes = [int(part.mask.sum()) for part in parts]
        samples = [i for part in parts for i in torch.tensor(part.indices)[part.mask].tolist()]
        assert samples == whole.tolist()
        assert len(parts) == count
        assert max(sizes) - min(sizes) <= 1
        assert [part.last for part in parts] == [False] * (count - 1) + [True]
        assert {part.step for part in parts} == {step}


def test_a_part_without_samples_has_one_that_only_fills_up():
    for part in Parts(KEY, samples_at(1e-9), 2).of(0):
        assert part.indices == (0,)
        assert part.mask.tolist() == [False]


def test_other_processes_come_to_the_same_parts():
    parts = Parts(KEY, samples_at(0.3), 2)
    first = [part.indices for part in parts.of(1)]
    for step in range(9):
        parts.of(step)
    assert [part.indices for part in parts.of(1)] == first
    assert [part.indices for part in pickle.loads(pickle.dumps(parts)).of(1)] == first


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_wrong_count_is_refused(count):
    with pytest.raises(ValueError, match="expected at least one part but got"):
        Parts(KEY, samples_at(0.1), count)


def test_the_parts_of_a_process_are_its_shards():
    parts = [Parts(KEY, samples_at(0.4), 2, range(own, 4, 2)) for own in range(2)]
    found = [part for process in parts for part in process.of(3)]
    indices, _ = samples_at(0.4).batch(KEY, 3)
    assert sorted(i for part in found if part.mask.all() for i in part.indices) == indices.tolist()
    assert [part.shard for part in found] == [0, 2, 1, 3]
    assert [part.last for part in found] == [False, True, False, True]
    with pytest.raises(
        ValueError, match="expected a part for each of the 2 shards of this process"
    ):
        Parts(KEY, samples_at(0.4), 1, range(0, 4, 2))
