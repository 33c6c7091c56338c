"""What is gathered of a batch: by shard, and without what only fills up."""

import pytest
import torch

from dpfunc.engine.gathering import Gathered, Gathering
from dpfunc.step.microbatch import Part
from dpfunc.types import Summed


def part(*numbers):
    norms = {"w": torch.tensor(numbers)}
    return Part(Summed({"w": norms["w"].sum()}, 1.0), norms, torch.tensor(numbers) + 10)


@pytest.fixture
def gathering():
    one = Gathering(torch.nn.Linear(1, 1), {}, None, "mean")
    kept = torch.tensor([True, True])
    one._parts = [
        Gathered(part(1.0, 2.0), kept, 0),
        Gathered(part(3.0, 4.0), kept, 0),
        Gathered(part(0.0), torch.tensor([False]), 2),
    ]
    return one


def test_what_fills_up_does_not_count_and_shards_stay_apart(gathering):
    first, second = gathering.by_shard(range(0, 4, 2))
    assert first.norms["w"].tolist() == [1, 2, 3, 4]
    assert first.losses.tolist() == [11, 12, 13, 14]
    assert float(first.summed.values["w"]) == 10
    assert second.norms["w"].tolist() == []
    assert float(second.summed.values["w"]) == 0


def test_a_shard_without_its_parts(gathering):
    with pytest.raises(RuntimeError, match=r"expected the parts of the shards \[0, 1, 2\]"):
        gathering.by_shard(range(3))


def test_a_batch_that_begins_again_is_not_gathered_twice(gathering):
    gathering.turn_to(0)
    assert not gathering.is_under_way
    with pytest.raises(RuntimeError, match=r"expected part 0 of the batch but got 'part 1'"):
        gathering.turn_to(1)


def test_the_whole_has_a_mask(gathering):
    whole, mask = gathering.whole()
    assert whole.norms["w"].tolist() == [1, 2, 3, 4, 0]
    assert mask.tolist() == [True] * 4 + [False]
