import math

import pytest
import torch

import dpfunc as dp
from dpfunc import accounting
from dpfunc.types import Summed
from tests.laws.exact_release import released

KEY = dp.key(1)
ZERO = {"w": torch.zeros(3, 4), "b": torch.zeros(())}


def at(noise, step):
    return {**noise.init({}), "step": step}


def add(noise, bound=1.0, values=ZERO, step=0):
    return noise.add(Summed(values, bound), at(noise, step))[0]


def test_the_scale_is_the_noise_multiplier_times_the_bound_widened():
    unit, deviation = add(dp.GaussianNoise(1.0, key=KEY)), 1 + 2.0**-10
    for start, name in ((0, "b"), (1, "w")):  # a row in the order of the names
        for i, value in enumerate(unit[name].flatten().tolist()):
            key = dp.fold_in(KEY, "noise", 0)
            assert value == released(key, start + i, 0.0, deviation, 2.0**-6)
    scaled = add(dp.GaussianNoise(3.0, key=KEY), bound=0.5)
    # The grids differ: both are rounded.
    expected = {name: 1.5 * value for name, value in unit.items()}
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1.5 * 2.0**-6)


def test_noise_is_a_pure_function_of_key_step_and_place():
    noise = dp.GaussianNoise(1.0, key=KEY)
    both = add(noise)
    assert torch.equal(add(noise)["w"], both["w"])
    turned = {"b": torch.zeros(()), "w": torch.zeros(3, 4)}
    assert torch.equal(add(noise, values=turned)["b"], both["b"])
    assert not torch.equal(add(noise, step=1)["w"], both["w"])
    renamed = add(noise, values={"w": ZERO["w"], "z": ZERO["b"]})  # it is the last now
    assert not torch.equal(renamed["w"], both["w"])


def test_the_values_are_shifted_and_left_as_they_were():
    noise, values = dp.GaussianNoise(1.0, key=KEY), {"w": torch.full((5,), 2.0)}
    moved = add(noise, values=values)["w"] - add(noise, values={"w": torch.zeros(5)})["w"]
    assert torch.equal(moved, torch.full((5,), 2.0))  # a multiple of the grid: nothing is rounded
    assert values["w"].tolist() == [2.0] * 5


def test_the_memory_of_the_sum_is_used_where_that_is_asked_for():
    noise, values = dp.GaussianNoise(1.0, key=KEY), {"w": torch.full((5,), 2.0)}
    expected = add(noise, values=values)
    noisy, state = noise.add_(Summed(values, 1.0), at(noise, 0))
    assert noisy["w"] is values["w"]
    assert torch.equal(noisy["w"], expected["w"])
    assert state == at(noise, 1)


def test_a_range_of_a_release_alone():
    noise, state = dp.GaussianNoise(1.0, key=KEY), at(dp.GaussianNoise(1.0, key=KEY), 3)
    values = torch.linspace(0, 1, 5000)
    whole = noise.add(Summed({"w": values}, 0.3), state)[0]["w"]
    part = noise.add_range(values[4000:], state, bound=0.3, start=4000)
    assert torch.equal(part, whole[4000:])
    assert torch.equal(values, torch.linspace(0, 1, 5000))
    assert noise.next_state(state) == {**state, "step": 4}
    with pytest.raises(ValueError, match="expected a state of this key"):
        noise.add_range(values, {**state, "run": ""}, bound=0.3, start=0)


def test_no_noise_gives_the_sum_back_and_counts_the_step():
    noise = dp.GaussianNoise(0.0, key=KEY)
    released, state = noise.add(Summed(ZERO, math.inf), at(noise, 4))
    assert torch.equal(released["w"], ZERO["w"])
    assert state == at(noise, 5)


def test_the_release_is_at_least_float32():
    half = {"w": torch.zeros(3, dtype=torch.bfloat16)}
    double = {"w": torch.zeros(3, dtype=torch.float64)}
    noise = dp.GaussianNoise(1.0, key=KEY)
    assert add(noise, values=half)["w"].dtype == torch.float32
    assert add(noise, values=double)["w"].dtype == torch.float64


def test_the_event_is_what_was_released():
    noise = dp.GaussianNoise(1.3, key=KEY)
    assert noise.event(at(noise, 7), sample_rate=0.1) == accounting.dp_sgd(
        noise_multiplier=1.3, sample_rate=0.1, steps=7
    )


@pytest.mark.parametrize("wrong", [ZERO, torch.zeros(2), (ZERO, 1.0), None])
def test_anything_but_a_sum_with_its_bound_is_refused(wrong):
    with pytest.raises(TypeError, match="GaussianNoise: expected a Summed"):
        dp.GaussianNoise(1.0, key=KEY).add(wrong, dp.GaussianNoise(1.0, key=KEY).init({}))


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


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_sums_of_other_than_real_floats_are_refused(dtype):
    with pytest.raises(TypeError, match="GaussianNoise: expected sums of real floating-point"):
        add(dp.GaussianNoise(1.0, key=KEY), values={"w": torch.zeros(3, dtype=dtype)})


def test_noise_that_is_too_small_for_floats_is_refused_and_not_left_out():
    with pytest.raises(ValueError, match="expected noise of a standard deviation"):
        add(dp.GaussianNoise(1e-200, key=KEY), bound=1e-200)
    with pytest.raises(ValueError, match="expected noise of a standard deviation"):
        add(dp.GaussianNoise(0.4, key=KEY), bound=5e-324)


def test_one_key_for_branches_of_two_steps_gives_them_other_noise():
    later, earlier = (RUN.resume(at(RUN, step), key=dp.key(8)) for step in (3, 2))
    earlier = RUN.add(Summed(ZERO, 1.0), earlier)[1]
    assert later["step"] == earlier["step"]
    one, other = (RUN.add(Summed(ZERO, 1.0), s)[0]["w"] for s in (later, earlier))
    assert not torch.equal(one, other)


def test_a_bound_of_low_precision_is_a_number():
    low = torch.tensor(0.3, dtype=torch.bfloat16)
    released = add(dp.GaussianNoise(1.0, key=KEY), bound=low)
    assert torch.equal(released["w"], add(dp.GaussianNoise(1.0, key=KEY), bound=float(low))["w"])


def test_a_state_whose_noise_was_another_is_refused_with_a_sentence():
    state = RUN.init({})
    for old in ({k: v for k, v in state.items() if k != "format"}, {**state, "format": 3}):
        with pytest.raises(ValueError, match="expected a state whose noise is of format 2"):
            RUN.add(Summed(ZERO, 1.0), old)


RUN = dp.GaussianNoise(1.0, key=KEY)


def test_resuming_with_the_runs_own_key_changes_nothing():
    state = at(RUN, 3)
    assert RUN.resume(state, key=KEY) == state


def test_a_branch_has_fresh_noise_and_goes_on_counting():
    state = at(RUN, 3)
    branch, other = (RUN.resume(state, key=dp.key(seed)) for seed in (8, 9))
    summed = Summed(ZERO, 1.0)
    releases = [RUN.add(summed, s)[0]["w"] for s in (state, branch, other)]
    assert not any(torch.equal(releases[i], releases[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    _, after = RUN.add(summed, branch)
    assert after["step"] == 4
    assert RUN.event(after, sample_rate=0.1).times == 4
    assert RUN.resume(after, key=KEY) == after  # the branch itself goes on after a crash
    again = RUN.resume(state, key=dp.key(8))
    assert torch.equal(RUN.add(summed, again)[0]["w"], releases[1])


def test_a_state_holds_no_key():
    branch = RUN.resume(RUN.init({}), key=dp.key(8))
    for secret in (KEY, dp.key(8)):
        assert secret.secret_bytes.hex() not in repr(branch)


def test_a_key_begins_one_branch_only():
    first = RUN.resume(RUN.init({}), key=dp.key(8))
    second = RUN.resume(RUN.add(Summed(ZERO, 1.0), first)[1], key=dp.key(9))
    with pytest.raises(ValueError, match="expected a key that has not begun a branch of this run"):
        RUN.resume(second, key=dp.key(8))


@pytest.mark.parametrize(
    "other", [dp.GaussianNoise(1.0, key=dp.key(2)), dp.GaussianNoise(1.5, key=KEY)]
)
def test_the_state_of_another_run_is_refused(other):
    """Another key would release a step twice unnoticed, another multiplier tell a wrong epsilon."""
    state = other.init({})
    with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
        RUN.add(Summed(ZERO, 1.0), state)
    with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
        RUN.event(state, sample_rate=0.1)
    with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
        RUN.resume(state, key=dp.key())
    forged = {**RUN.init({}), "branches": ["00"]}
    with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
        RUN.add(Summed(ZERO, 1.0), forged)


def test_resume_takes_a_key():
    with pytest.raises(
        TypeError, match=r"resume: expected key=dpfunc.key\(\), or the key of the run"
    ):
        RUN.resume(RUN.init({}), key=None)
