"""Several processes, and modules that are wrapped for them, are refused by a true sentence."""

import functools
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

import dpfunc as dp

ROOT = Path(__file__).parents[2]


class DistributedDataParallel(nn.Module):
    """Has the name of torch's own, and needs no process group."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


def private(loss_fn):
    noise = dp.GaussianNoise(1.0, key=dp.key(1))
    return dp.PrivateGrad(loss_fn, clip=dp.Clip(1.0), noise=noise, expected_batch_size=4)


def engine_for(model):
    options = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5, "key": dp.key(1)}
    return dp.PrivacyEngine(model, sample_size=8, batch_size=4, **options)


def loss_of(model):
    return lambda params, x: functional_call(model, params, (x[None],)).sum()


@pytest.fixture
def _two_processes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)


@pytest.mark.usefixtures("_two_processes")
def test_two_processes():
    model = nn.Linear(2, 1)
    step, params = private(loss_of(model)), dp.named_params(model)
    with pytest.raises(RuntimeError, match=r"PrivateGrad.update: expected one process but got 'a"):
        step.update(params, torch.ones(4, 2), step.init(params))
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected one process but got 'a proc"):
        engine_for(model)


def test_a_process_group_that_comes_later(monkeypatch):
    model = nn.Linear(2, 1)
    engine = engine_for(model)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    with pytest.raises(RuntimeError, match=r"PrivacyEngine\.attach: expected one process"):
        engine.attach(torch.optim.SGD(model.parameters(), lr=0.1))


def test_wrapped_modules():
    model = DistributedDataParallel(nn.Linear(2, 1))
    for wrapped in (model, nn.Sequential(model)):
        with pytest.raises(TypeError, match="expected the plain module but got 'one wrapped in D"):
            dp.named_params(wrapped)
        with pytest.raises(TypeError, match="PrivacyEngine: expected the plain module but got 'on"):
            engine_for(wrapped)
    loss = loss_of(model)
    closures = [loss, dp.batched(loss), functools.partial(loss), lambda params, x: loss(params, x)]
    for loss_fn in closures:
        with pytest.raises(TypeError, match="PrivateGrad: expected the plain module but got 'one"):
            private(loss_fn)


PROGRAM = """
import sys, torch, dpfunc as dp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
rank, world, port = map(int, sys.argv[1:])
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
model = nn.Linear(2, 1)
loss = lambda params, x: torch.func.functional_call(model, params, (x[None],)).sum()
private = dp.PrivateGrad(loss, clip=dp.Clip(1.0), noise=dp.GaussianNoise(1.0, key=dp.key(1)),
                         expected_batch_size=4)
params = dp.named_params(model)
said = []
for attempt in (
    lambda: private.update(params, torch.ones(4, 2), private.init(params)),
    lambda: dp.PrivacyEngine(model, sample_size=8, batch_size=4, noise_multiplier=1.0,
                             max_grad_norm=1.0, delta=1e-5, key=dp.key(1)),
    lambda: dp.named_params(DistributedDataParallel(model)),
):
    try:
        attempt()
        said.append("served")
    except (RuntimeError, TypeError) as refused:
        said.append(str(refused).split(" but got ")[0])
torch.distributed.destroy_process_group()
print("; ".join(said))
"""


@pytest.mark.parametrize("world", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_real_processes(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", PROGRAM]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    one = "PrivateGrad.update: expected one process; PrivacyEngine: expected one process"
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        expected = "served; served" if world == 1 else one
        assert out.strip() == f"{expected}; named_params: expected the plain module"
