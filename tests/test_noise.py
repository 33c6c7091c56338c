import math

import pytest
import torch

import dpfunc as dp
from dpfunc import accounting
from dpfunc.types import Summed

KEY = dp.key(1)
ZERO = {"w": torch.zeros(3, 4), "b": torch.zeros(())}


def add(noise, bound=1.0, values=ZERO, step=0):
    return noise.add(Summed(values, bound), {"step": step})[0]


def test_the_scale_is_the_noise_multiplier_times_the_bound():
    unit = add(dp.GaussianNoise(1.0, key=KEY))
    scaled = add(dp.GaussianNoise(3.0, key=KEY), bound=0.5)
    torch.testing.assert_close(scaled, {name: 1.5 * value for name, value in unit.items()})


def test_noise_is_a_pure_function_of_key_step_and_name():
    noise = dp.GaussianNoise(1.0, key=KEY)
    both = add(noise)
    assert torch.equal(add(noise, values={"b": torch.zeros(())})["b"], both["b"])
    assert torch.equal(add(noise)["w"], both["w"])
    assert not torch.equal(add(noise, step=1)["w"], both["w"])
    renamed = add(noise, values={"v": torch.zeros(3, 4)})
    assert not torch.equal(renamed["v"], both["w"])


def test_the_values_are_shifted_and_left_as_they_were():
    noise, values = dp.GaussianNoise(1.0, key=KEY), {"w": torch.full((5,), 2.0)}
    moved = add(noise, values=values)["w"] - add(noise, values={"w": torch.zeros(5)})["w"]
    torch.testing.assert_close(moved, torch.full((5,), 2.0))
    assert values["w"].tolist() == [2.0] * 5


def test_no_noise_gives_the_sum_back_and_counts_the_step():
    released, state = dp.GaussianNoise(0.0, key=KEY).add(Summed(ZERO, math.inf), {"step": 4})
    assert torch.equal(released["w"], ZERO["w"])
    assert state == {"step": 5}


def test_the_release_is_at_least_float32():
    half = {"w": torch.zeros(3, dtype=torch.bfloat16)}
    double = {"w": torch.zeros(3, dtype=torch.float64)}
    noise = dp.GaussianNoise(1.0, key=KEY)
    assert add(noise, values=half)["w"].dtype == torch.float32
    assert add(noise, values=double)["w"].dtype == torch.float64


def test_the_event_is_what_was_released():
    noise = dp.GaussianNoise(1.3, key=KEY)
    assert noise.event({"step": 7}, sample_rate=0.1) == accounting.dp_sgd(
        noise_multiplier=1.3, sample_rate=0.1, steps=7
    )


@pytest.mark.parametrize("wrong", [ZERO, torch.zeros(2), (ZERO, 1.0), None])
def test_anything_but_a_sum_with_its_bound_is_refused(wrong):
    with pytest.raises(TypeError, match="GaussianNoise: expected a Summed"):
        dp.GaussianNoise(1.0, key=KEY).add(wrong, {"step": 0})


@pytest.mark.parametrize("bound", [math.inf, math.nan, -1.0])
def test_an_unbounded_sum_is_refused(bound):
    with pytest.raises(ValueError, match="expected a sum with a finite L2 bound"):
        add(dp.GaussianNoise(1.0, key=KEY), bound=bound)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, "1", None, True])
def test_a_bad_noise_multiplier_is_refused(sigma):
    with pytest.raises(ValueError, match="expected a finite noise_multiplier >= 0"):
        dp.GaussianNoise(sigma, key=KEY)


@pytest.mark.parametrize("wrong", [0, None, torch.Generator(), b"x" * 32])
def test_a_key_is_required(wrong):
    with pytest.raises(TypeError, match=r"expected key=dpfunc.key\(\)"):
        dp.GaussianNoise(1.0, key=wrong)
    with pytest.raises(TypeError, match="key"):
        dp.GaussianNoise(1.0)
