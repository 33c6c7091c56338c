"""Noise as promised passes; too little, of another shape, or used twice does not."""

import pytest
import torch

import dpfunc as dp
from dpfunc import audit
from dpfunc.types import Summed

SHAPES = {"w": (40, 30), "b": (40,), "s": ()}


def release_of(scale=1.0, key_of=lambda step, name: (step, name), change=lambda x: x):
    def release(step):
        return {
            name: change(scale * dp.normal(dp.fold_in(dp.key(9), *key_of(step, name)), shape))
            for name, shape in SHAPES.items()
        }

    return release


def check(release, sigma=1.0):
    return audit.check_noise(release, bound=2.0, noise_multiplier=sigma / 2)


def test_the_noise_of_dpfunc_is_as_promised():
    noise = dp.GaussianNoise(0.8, key=dp.key(3))
    zeros = {name: torch.zeros(shape) for name, shape in SHAPES.items()}

    def release(step):
        state = noise.init({}) if step == 0 else states[-1]
        noisy, state = noise.add(Summed(zeros, 0.5), state)
        states.append(state)
        return noisy

    states = []
    report = audit.check_noise(release, bound=0.5, noise_multiplier=0.8, steps=6)
    assert not report.findings, report


def test_normal_noise_passes():
    assert check(release_of())


@pytest.mark.parametrize(
    ("release", "what"),
    [
        (release_of(0.95), "variance"),
        (release_of(1.05), "variance"),
        (release_of(key_of=lambda step, name: (step // 2, name)), "noise of 0 and 1"),
        (release_of(key_of=lambda step, name: (step, "same")), "correlated"),
        (release_of(change=lambda x: x.sign() * 1.0), "not normal"),
        (release_of(change=lambda x: x / 0), "not finite"),
    ],
)
def test_other_noise_is_accused(release, what):
    report = check(release)
    assert any(what in finding.what for finding in report.findings), report


def test_arguments_are_those_of_a_run():
    with pytest.raises(ValueError, match="a bound and a noise_multiplier > 0"):
        audit.check_noise(release_of(), bound=0.0, noise_multiplier=1.0)
    with pytest.raises(ValueError, match="steps >= 2"):
        audit.check_noise(release_of(), bound=1.0, noise_multiplier=1.0, steps=1)
