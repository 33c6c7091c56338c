"""The scripts of docs/correlated.md, in small: what they draw and compare."""

import gzip
import struct

import pytest
import torch

import dpfunc as dp
from benchmarks import clip_norms, correlated, correlated_attack


def test_the_attack_is_always_right_about_rounded_noise_and_at_chance_about_ours():
    naive = correlated_attack.guesses_right(correlated_attack.naive, games=600)
    assert 0.4 < naive[0] < 0.6
    assert naive[1:] == [1.0] * (correlated_attack.STEPS - 1)
    ours = correlated_attack.guesses_right(correlated_attack.ours, games=600)
    for steps, right in enumerate(ours, 1):
        assert abs(right - correlated_attack.ideal(steps)) < 0.1


def images(size, key):
    """Ten classes that a network can tell apart."""
    y = torch.arange(size) % 10
    x = 0.3 * dp.normal(dp.key(key), (size, 784))
    x[torch.arange(size), y * 70] += 3.0
    return x, y


def test_bands_are_trained_at_equal_privacy():
    data, test = images(1200, 1), images(200, 2)
    contenders = {bands: correlated.setting(bands, 8.0, 1200) for bands in (1, 2)}
    for bands, (strategy, sampler, s) in contenders.items():
        event = sampler.event(s, steps=strategy.steps, strategy=strategy)
        assert 7.99 < dp.accounting.epsilon(event, delta=correlated.DELTA) <= 8.0
        right = correlated.trained(contenders[bands], data, test, 0.3, seed=0)
        assert right > 25  # chance is 10


def idx(path, values, shape):
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    with gzip.open(path, "wb") as file:
        file.write(head + values.to(torch.uint8).numpy().tobytes())


@pytest.mark.nightly
def test_clipping_norms_are_compared(tmp_path, monkeypatch):
    for name, size in (("train", 800), ("t10k", 100)):
        x, y = images(size, 3)
        pixels = (x.clamp(-1, 1) + 1) * 127
        idx(tmp_path / f"{name}-images-idx3-ubyte.gz", pixels, (size, 28, 28))
        idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", y, (size,))
    monkeypatch.setattr(clip_norms, "NORMS", (1.0,))
    monkeypatch.setattr(clip_norms, "STARTS", (1.0,))
    monkeypatch.setattr(clip_norms, "RATES", (0.3,))
    found = clip_norms.compared(tmp_path, 1, None, epsilon=50.0, batch=200)
    assert set(found) == {"fixed 1", "learned from 1"}
    assert all(runs[0] > 15 for runs in found.values()), found
    assert found["fixed 1"][0] == pytest.approx(found["learned from 1"][0], abs=60)
