from collections import UserDict
from typing import NamedTuple

import pytest
import torch

from dpfunc.persample.batches.batch import (
    as_args,
    batch_device,
    batch_size,
    map_tensors,
    slices,
    take,
)


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


NESTED = {"a": torch.arange(4), "b": [torch.ones(4, 2), Pair(torch.zeros(4), torch.ones(4))]}


def test_the_structure_is_kept():
    doubled = map_tensors(lambda tensor: tensor * 2, NESTED)
    assert doubled["a"].tolist() == [0, 2, 4, 6]
    assert isinstance(doubled["b"], list)
    assert isinstance(doubled["b"][1], Pair)


def test_mappings_become_dicts():
    assert map_tensors(torch.neg, UserDict(a=torch.ones(1))) == {"a": torch.tensor([-1.0])}


def test_size_and_device():
    assert batch_size(NESTED) == 4
    assert batch_device(NESTED).type == "cpu"


def test_take_a_slice_or_one_sample():
    assert take(NESTED, slice(1, 3))["b"][1].left.shape == (2,)
    assert take(NESTED, 2)["a"] == 2


def test_a_tuple_is_spread_and_all_else_is_one_argument():
    x = torch.ones(2)
    assert as_args((x, x)) == (x, x)
    assert as_args(x) == (x,)
    assert as_args({"x": x}) == ({"x": x},)


@pytest.mark.parametrize(
    ("size", "limit", "sizes"),
    [(5, None, [5]), (5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, 10, [3]), (0, None, [0]), (0, 4, [0])],
)
def test_slices_cover_the_batch_once(size, limit, sizes):
    parts = [torch.arange(size)[where] for where in slices(size, limit)]
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).tolist() == list(range(size))
