import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpfunc.noise.kernels.format import MOST_ITEMS
from dpfunc.noise.lattice import release, release_, spacing, widened
from dpfunc.random.keys import key
from tests.devices import DEVICES


@given(st.floats(2.0**-113, 2.0**105))
def test_the_grid_is_a_power_of_two_that_is_small_beside_the_deviation(deviation):
    grid = spacing(deviation)
    assert math.frexp(grid)[0] == 0.5
    assert 64 <= deviation / grid < 128


def test_the_sensitivity_is_widened_for_floats_alone():
    assert widened(3.0) == 3.0 * (1 + 2.0**-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shape_dtype_and_device(dtype, device):
    for shape in [(), (0,), (3, 4)]:
        values = torch.ones(shape, dtype=dtype, device=device)
        noisy = release({"w": values}, key(1), deviation=1.0)["w"]
        assert noisy.shape == shape
        assert noisy.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(values, torch.ones(shape, dtype=dtype, device=device))
        here = release({"w": values.cpu()}, key(1), deviation=1.0)["w"]
        assert torch.equal(noisy.cpu(), here)


def test_values_in_any_layout():
    values = torch.arange(12.0).reshape(3, 4)
    expected = release({"w": values}, key(1), deviation=1.0)["w"]
    for there in (values.T.contiguous().T, values.expand(2, 3, 4)[1], values.double().float()):
        assert torch.equal(release({"w": there}, key(1), deviation=1.0)["w"], expected)


def test_in_place_where_the_memory_is_its_own():
    shared = torch.ones(10)
    values = {"a": torch.ones(3, 4), "b": torch.ones(4, 3).T, "c": shared, "d": shared}
    values["e"] = torch.ones(2, requires_grad=True)
    expected = release(values, key(2), deviation=1.0)
    released = release_(dict(values), key(2), deviation=1.0)
    for name, value in released.items():
        assert torch.equal(value, expected[name])
        assert (value is values[name]) == (name in ("a", "c")), name
    assert not torch.equal(released["c"], released["d"])


def test_any_range_can_be_released_alone():
    """For the parts of a sharded optimizer: the same numbers, without the rest."""
    row = torch.linspace(-1, 1, 20_000)
    whole = release({"w": row}, key(3), deviation=0.1)["w"]
    for start, stop in [(0, 20_000), (1, 2), (4095, 12_289), (19_999, 20_000), (7, 7)]:
        part = {"any name": row[start:stop].clone()}
        here = release_(part, key(3), deviation=0.1, starts={"any name": start})
        assert torch.equal(here["any name"], whole[start:stop])


@pytest.mark.parametrize("deviation", [0.0, -1.0, 1e-37, 1e33, math.inf, math.nan])
def test_noise_outside_of_the_range_of_float32_is_refused(deviation):
    with pytest.raises(ValueError, match="GaussianNoise: expected noise of a standard deviation"):
        release({"w": torch.zeros(3)}, key(1), deviation=deviation)


def test_more_items_than_a_key_has_words_for_are_refused_before_anything_is_touched():
    values = {"w": torch.ones(3)}
    with pytest.raises(ValueError, match="expected at most 68719476736 numbers in a release"):
        release_(values, key(1), deviation=1.0, starts={"w": MOST_ITEMS - 2})
    assert (values["w"] == 1).all()
