import math
from traceback import walk_tb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpfunc.noise import lattice
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
        assert (value is values[name]) == (name == "a"), name
    assert (values["b"] == 0).all()
    assert not torch.equal(released["c"], released["d"])


@pytest.mark.parametrize("fails", [False, True])
def test_no_sum_is_left_in_the_memory_that_was_given(fails, monkeypatch):
    """Neither beside the release in its storage, nor in an original of a copy, nor by an error."""
    buffer = torch.full((2000,), 1234.5)
    values = {"a": buffer[:1000], "b": buffer[1000:], "t": torch.full((3, 4), 7.5).T}
    values["h"] = torch.full((5,), 3.0, dtype=torch.bfloat16)
    values["g"] = torch.full((5,), 3.0, requires_grad=True)
    if fails:
        monkeypatch.setattr(lattice, "kernel_for", lambda device: failing)
        with pytest.raises(ZeroDivisionError) as raised:
            release_(values, key(2), deviation=1.0)
        held = [v for frame, _ in walk_tb(raised.tb) for v in frame.f_locals.values()]
        assert not any(isinstance(v, float) and v == 1234.5 for v in held)
    else:
        released = release_(values, key(2), deviation=1.0)
        assert released["a"].untyped_storage().nbytes() == 4 * 1000
    assert all((value == 0).all() for value in values.values())
    assert (buffer == 0).all()


def failing(pieces, *args):
    in_hand = float(pieces[0].items[0])
    return in_hand / 0


def test_an_interrupt_while_zeros_are_written_changes_nothing(monkeypatch):
    interrupts, real = [KeyboardInterrupt, KeyboardInterrupt], torch.Tensor.zero_

    def interrupted(value):
        if interrupts:
            raise interrupts.pop()
        return real(value)

    monkeypatch.setattr(lattice, "kernel_for", lambda device: failing)
    monkeypatch.setattr(torch.Tensor, "zero_", interrupted)
    values = {"a": torch.ones(3), "b": torch.ones(3)}
    with pytest.raises(ZeroDivisionError):
        release_(values, key(2), deviation=1.0)
    assert all((value == 0).all() for value in values.values())


@pytest.mark.parametrize(
    "starts", [{"a": 0, "b": 5}, {"a": 3, "b": 0}, {"a": 0.5, "b": 20}, {"a": True, "b": 20}]
)
def test_places_that_overlap_or_are_none_are_refused_and_nothing_changes(starts):
    values = {"a": torch.ones(10), "b": torch.ones(10)}
    with pytest.raises(ValueError, match="places >= 0 that do not overlap"):
        release_(values, key(1), deviation=1.0, starts=starts)
    assert all((value == 1).all() for value in values.values())


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        values = {"w": torch.ones(10)}
    expected = release({"w": torch.ones(10)}, key(1), deviation=1.0)
    assert torch.equal(release_(values, key(1), deviation=1.0)["w"], expected["w"])
    assert (values["w"] == 0).all()


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
