"""L1 in low precision: no switch that rounds is left on where norms and sums are computed."""

import importlib
import pkgutil
from contextlib import ExitStack
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.persample.factors.precision import full_precision
from tests.laws.matrix import Recorder, flat

OPERATIONS = ("matmul", "conv", "rnn")
MANY = 4096


def switches() -> dict[str, object]:
    """Whatever in ``torch.backends`` has a precision of an operation's float32 numbers."""
    found = {}
    for info in pkgutil.walk_packages(torch.backends.__path__, "torch.backends."):
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # of a package that is not here
            continue
        for name in OPERATIONS:
            switch = getattr(module, name, None)
            if isinstance(getattr(switch, "fp32_precision", None), str):
                found[f"{info.name}.{name}"] = switch
    return found


def test_every_switch_reads_full_precision_inside_and_as_before_outside():
    found = switches()
    assert len(found) >= 5
    before = {name: switch.fp32_precision for name, switch in found.items()}
    try:
        for name, switch in found.items():
            switch.fp32_precision = "bf16" if "mkldnn" in name else "tf32"
        low = {name: switch.fp32_precision for name, switch in found.items()}
        assert "ieee" not in low.values()
        with full_precision():
            inside = {name: switch.fp32_precision for name, switch in found.items()}
        assert inside == dict.fromkeys(found, "ieee")
        assert {name: switch.fp32_precision for name, switch in found.items()} == low
    finally:
        for name, switch in found.items():
            switch.fp32_precision = before[name]


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps", "xpu"])
def test_autocast_is_off_inside_on_every_device_and_on_again_outside(device):
    """It can be on for a device that is not there; then nothing asks this device."""
    torch.set_autocast_enabled(device, True)
    try:
        with full_precision():
            inside = torch.is_autocast_enabled(device)
        assert not inside
        assert torch.is_autocast_enabled(device)
    finally:
        torch.set_autocast_enabled(device, False)


_ATTENTION = nn.MultiheadAttention(8, 2, batch_first=True, bias=False)


def attended(params, x):
    return functional_call(_ATTENTION, params, (x[None],) * 3)[0].sum()


LOSSES = {
    "formed at once": (lambda p, x: F.linear(x, p["w"]).sum(), {"w": (3, 8)}, (16, 8)),
    "factors": (lambda p, x: F.linear(x, p["w"]).sum(), {"w": (32, 8)}, (2, 8)),
    "convolution": (lambda p, x: F.conv2d(x[None], p["w"]).sum(), {"w": (8, 8, 2, 2)}, (8, 3, 3)),
    "convolution, few channels": (
        *(lambda p, x: F.conv2d(x[None], p["w"]).sum(), {"w": (2, 1, 2, 2)}, (1, 4, 4)),
    ),
    "convolution, kept": (
        *(lambda p, x: F.conv2d(x[None], p["w"]).sum(), {"w": (48, 40, 3, 3)}, (40, 3, 3)),
    ),
    "attention": (
        attended,
        {name: tuple(param.shape) for name, param in _ATTENTION.named_parameters()},
        (4, 8),
    ),
}


def summed(loss_fn, shapes, shape, count: int, engine: str):
    params = {
        name: 0.3 * dp.normal(dp.key(seed), size)
        for seed, (name, size) in enumerate(shapes.items())
    }
    one = 0.7 + 0.1 * dp.normal(dp.key(9), shape)
    recorder = Recorder()
    private = dp.PrivateGrad(
        loss_fn, clip=dp.Clip(1.0), noise=recorder, expected_batch_size=1, engine=engine
    )
    private.update(params, one.expand(count, *shape), private.init(params))
    return flat(recorder.seen[0].values)


@pytest.mark.parametrize("precision", ["plain", "autocast", "switches"])
@pytest.mark.parametrize("name", LOSSES)
def test_one_record_among_thousands_moves_the_sum_by_its_bound(name, precision):
    """Rounded to eight bits, it would move them by several times that, or by nothing."""
    count = 512 if name == "convolution, kept" else MANY
    run = partial(summed, *LOSSES[name], engine="factored")
    with ExitStack() as stack:
        if precision == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        if precision == "switches":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("medium")
        moved = (run(count + 1) - run(count)).norm()
    assert moved == pytest.approx(1.0, abs=0.005)
