import itertools
from collections import Counter

import pytest
import torch
from scipy import stats

import dpfunc.random.subsets as subsets
from dpfunc.random.keys import fold_in, key
from dpfunc.random.subsets import permutation, subset

UNLIKELY = 1e-5


def test_every_order_is_equally_likely():
    orders = Counter(tuple(permutation(fold_in(key(1), i), 4).tolist()) for i in range(6000))
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > UNLIKELY


def test_every_subset_is_equally_likely():
    drawn = Counter(tuple(subset(fold_in(key(2), i), 5, count=2).tolist()) for i in range(4000))
    assert set(drawn) == set(itertools.combinations(range(5), 2))
    assert stats.chisquare(list(drawn.values())).pvalue > UNLIKELY


def test_equal_words_are_drawn_again(monkeypatch):
    attempts = []

    def bits(k, size, device):
        attempts.append(k)
        return torch.tensor([3, 1, 3]) if len(attempts) == 1 else torch.tensor([3, 1, 2])

    monkeypatch.setattr(subsets, "bits", bits)
    assert permutation(key(1), 3).tolist() == [1, 2, 0]
    assert len(set(attempts)) == 2


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_permutation_has_every_member_once(size):
    assert permutation(key(3), size).sort().values.tolist() == list(range(size))
    assert subset(key(3), size, count=size).tolist() == list(range(size))
    assert subset(key(3), size, count=0).tolist() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: permutation(key(1), -1), "permutation: expected an int size >= 0 but got -1"),
        (lambda: subset(key(1), 1.5, count=1), "subset: expected an int size >= 0 but got 1.5"),
        (lambda: subset(key(1), 3, count=4), "expected an int count between 0 and 3 but got 4"),
        (lambda: subset(key(1), 3, count=True), "expected an int count between 0 and 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
