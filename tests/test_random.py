import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import dpfunc as dp
import dpfunc.random as random_module
from dpfunc.random import Key, bits, fold_in, key, normal
from tests.devices import DEVICES

DATA = st.lists(st.one_of(st.text(max_size=3), st.integers(-3, 300)), max_size=4)


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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_normal(dtype, device):
    z = normal(key(4), (1000, 1001), dtype=dtype, device=device).double().cpu().numpy().flatten()
    n = z.size
    assert stats.kstest(z, "norm").pvalue > 1e-5
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - moment) < 4.5 * (variance / n) ** 0.5
    beyond = (abs(z) > 4).sum()
    assert 1e-5 < stats.binom.cdf(beyond, n, 2 * stats.norm.sf(4)) < 1 - 1e-5
    assert abs(np.corrcoef(z[: n // 2], z[n - n // 2 :])[0, 1]) < 4.5 / (n / 2) ** 0.5  # cos, sin


@pytest.mark.parametrize("device", DEVICES)
def test_normals_agree_across_devices_up_to_rounding(device):
    here = normal(key(4), (1000,), device=device).cpu()
    torch.testing.assert_close(here, normal(key(4), (1000,)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2**17 - 1, 2**17, 2**17 + 1, 5 * 2**17 + 3])
def test_blocks_are_the_same_one_at_a_time_and_all_at_once(dtype, count, monkeypatch):
    """A CPU makes the blocks in turn; a GPU, here played by the CPU, all of them together."""
    in_turn = normal(key(4), (count,), dtype=dtype)
    blocks = random_module._blocks
    monkeypatch.setattr(random_module, "_blocks", lambda pairs, on_cpu: blocks(pairs, on_cpu=False))
    assert torch.equal(normal(key(4), (count,), dtype=dtype), in_turn)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 0, 3), (3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_has_the_shape_asked_for(shape, dtype):
    z = normal(key(1), shape, dtype=dtype)
    assert (z.shape, z.dtype) == (shape, dtype)
    assert z.isfinite().all()


def test_normal_is_a_pure_function():
    assert torch.equal(normal(key(1), (9,)), normal(key(1), (9,)))
    torch.manual_seed(0)
    first = normal(key(1), (9,))
    torch.manual_seed(1)
    assert torch.equal(first, normal(key(1), (9,)))


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
        (lambda: normal(key(1), (2,), dtype=torch.float16), ValueError, "float32 or float64"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
