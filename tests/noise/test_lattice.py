import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpfunc.noise.lattice import release, spacing, widened
from dpfunc.random.keys import key
from dpfunc.random.rounded import rounded_normal
from tests.devices import DEVICES

GRID = 2.0**-10


@given(st.floats(2.0**-100, 2.0**100), st.integers(0, 2**40))
def test_the_grid_is_a_power_of_two_that_uses_its_share_of_the_bound(bound, size):
    grid = spacing(bound, size)
    assert math.frexp(grid)[0] == 0.5
    used = grid * math.sqrt(max(size, 1)) / bound
    assert 2.0**-11 * (1 - 1e-12) <= used <= 2.0**-10
    assert widened(bound) >= bound + math.sqrt(size) * grid


def test_the_release_is_the_rounded_sum_plus_rounded_noise():
    values = torch.linspace(-3, 3, 1001)
    noise = rounded_normal(key(1), (1001,), scale=5.0 / GRID)
    expected = ((values.double() / GRID).round() + noise) * GRID
    assert torch.equal(release(values, key(1), deviation=5.0, grid=GRID), expected.float())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shape_dtype_and_device(dtype, device):
    for shape in [(), (0,), (3, 4)]:
        values = torch.ones(shape, dtype=dtype, device=device)
        noisy = release(values, key(1), deviation=1.0, grid=GRID)
        assert noisy.shape == shape
        assert noisy.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(values, torch.ones(shape, dtype=dtype, device=device))
        here = release(values.cpu(), key(1), deviation=1.0, grid=GRID)
        assert torch.equal(noisy.cpu(), here)


def test_values_in_any_layout():
    values = torch.arange(12.0).reshape(3, 4)
    there = release(values.T.contiguous().T, key(1), deviation=1.0, grid=GRID)
    assert torch.equal(there, release(values, key(1), deviation=1.0, grid=GRID))


@pytest.mark.parametrize("bound", [0.0, -1.0, 1e-40, 1e40, math.inf, math.nan])
def test_a_bound_outside_of_the_range_of_float32_is_refused(bound):
    with pytest.raises(ValueError, match="expected an L2 bound between"):
        spacing(bound, 3)
