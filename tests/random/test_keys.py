import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dpfunc as dp
from dpfunc.random.keys import Key, bits, fold_in, key
from tests.devices import DEVICES
from tests.random.strategies import DATA


def test_a_key_without_a_seed_is_new_every_time():
    assert len({key().secret_bytes for _ in range(100)}) == 100


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**32 + 1, 2**200])
def test_a_seed_gives_one_key(seed):
    assert key(seed) == key(seed)


def test_all_the_bits_of_a_seed_count():
    # A CPU torch.Generator keeps the low 32 bits only.
    seeds = [0, 2**32, 2**33, 2**64, 1]
    assert len({key(seed).secret_bytes for seed in seeds}) == len(seeds)


def test_nothing_secret_is_printed():
    secret = key(3)
    for text in (repr(secret), str(secret), f"{secret}", repr(dp.GaussianNoise(1.0, key=secret))):
        assert "secret" in text
        assert repr(secret.secret_bytes) not in text
        assert secret.secret_bytes.hex() not in text


def test_a_key_is_saved_only_on_request():
    assert Key(key(3).secret_bytes) == key(3)
    assert pickle.loads(pickle.dumps(key(3))) == key(3)


@given(DATA, DATA)
def test_fold_in_tells_different_data_apart(left, right):
    root = key(1)
    assert (fold_in(root, *left) == fold_in(root, *right)) == (left == right)


def test_fold_in_differs_by_key():
    assert fold_in(key(1), "a") != fold_in(key(2), "a")


@pytest.mark.parametrize("device", DEVICES)
def test_bits_are_the_same_on_every_device(device):
    assert torch.equal(bits(key(1), 1001, device=device).cpu(), bits(key(1), 1001))


@given(st.integers(0, 40), st.integers(0, 300))
def test_a_stream_can_be_read_in_parts(block, count):
    whole = bits(key(1), 8 * block + count)
    assert torch.equal(bits(key(1), count, start=8 * block), whole[8 * block :])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: key(-1), ValueError, "expected seed >= 0 but got -1"),
        (lambda: key(1.5), TypeError, "expected an int seed or None but got 1.5"),
        (lambda: key(True), TypeError, "expected an int seed or None but got True"),
        (lambda: Key(b"short"), ValueError, "expected 32 secret bytes but got '5 bytes'"),
        (lambda: fold_in("key", 1), TypeError, "expected a dpfunc.Key but got 'str'"),
        (lambda: fold_in(key(1), 1.0), TypeError, "expected strings and ints but got 1.0"),
        (lambda: fold_in(key(1), True), TypeError, "expected strings and ints but got True"),
        (lambda: bits(key(1), -1), ValueError, "expected an int count >= 0 but got -1"),
        (lambda: bits(b"x", 1), TypeError, "expected a dpfunc.Key but got 'bytes'"),
        (lambda: bits(key(1), 1, start=3), ValueError, "a start that is a multiple of 8 but got 3"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
