"""The parts of a Poisson sample: disjoint, and together the sample; a record's shard is its own."""

import pytest
import torch

import dpfunc as dp
from dpfunc import sampling

KEY = dp.key(3)


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 64])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 1001, 70_000, 2 * 2**16])
def test_the_parts_are_the_sample_cut_by_shard(size, shards):
    for rate in (0.0, 0.02, 0.6, 1.0):
        whole, _ = sampling.poisson(KEY, 7, size=size, rate=rate)
        parts = [
            sampling.poisson(KEY, 7, size=size, rate=rate, part=(i, shards))[0]
            for i in range(shards)
        ]
        assert torch.equal(torch.cat(parts).sort().values, whole)
        for number, part in enumerate(parts):
            assert (part.diff() > 0).all()
            assert (sampling.shard_of(part, shards) == number).all()


def test_more_records_leave_the_shards_and_the_coins_of_the_others():
    small = sampling.poisson(KEY, 2, size=1000, rate=0.3, part=(1, 4))[0]
    large = sampling.poisson(KEY, 2, size=1001 + 2**16, rate=0.3, part=(1, 4))[0]
    assert torch.equal(large[large < 1000], small)


def test_a_part_is_padded_like_a_whole_sample():
    indices, mask = sampling.poisson(KEY, 0, size=100, rate=0.5, part=(1, 3), pad_to=60)
    plain, _ = sampling.poisson(KEY, 0, size=100, rate=0.5, part=(1, 3))
    assert torch.equal(indices[mask], plain)
    assert len(indices) == 60


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0.5, 2), (1,), 3, (0, 0), (True, 2)])
def test_a_wrong_part(part):
    with pytest.raises(ValueError, match=r"poisson: expected part=\(i, n\)"):
        sampling.poisson(KEY, 0, size=10, rate=0.5, part=part)


def test_a_wrong_question_about_shards():
    with pytest.raises(ValueError, match="shard_of: expected an int shards >= 1 but got 0"):
        sampling.shard_of(torch.arange(3), 0)
    with pytest.raises(TypeError, match="shard_of: expected a tensor of record numbers"):
        sampling.shard_of(torch.ones(3), 2)
    with pytest.raises(TypeError, match="shard_of: expected a tensor of record numbers"):
        sampling.shard_of([1, 2], 2)
