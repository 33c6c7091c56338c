"""Tools of PyTorch that look at a private step from outside work around it, and change nothing."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import dpfunc as dp

MODEL = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
BATCH = dp.normal(dp.key(1), (5, 4)), torch.arange(5) % 3


def one_sample(params, x, y):
    logits = torch.func.functional_call(MODEL, params, (x[None],))
    return nn.functional.cross_entropy(logits, y[None])


def whole_batch(params, x, y):
    logits = torch.func.functional_call(MODEL, params, (x,))
    return nn.functional.cross_entropy(logits, y, reduction="none")


ENTRIES = {
    "factored": (one_sample, "factored"),
    "dense": (one_sample, "dense"),
    "whole batch": (dp.batched(whole_batch), "factored"),
}


class Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def step(entry):
    loss, engine = ENTRIES[entry]
    private = dp.PrivateGrad(
        loss,
        clip=dp.Clip(0.1),
        noise=dp.GaussianNoise(1.0, key=dp.key(3)),
        expected_batch_size=4,
        engine=engine,
    )
    params = dp.named_params(MODEL)
    return private.update(params, BATCH, private.init(params))[0]


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("tool", ["flops", "profiler", "dispatch"])
def test_tools_of_pytorch_see_a_step_and_change_nothing(tool, entry):
    expected = step(entry)
    if tool == "flops":
        with FlopCounterMode(display=False) as counter:
            grads = step(entry)
        assert counter.get_total_flops() >= 2 * 2 * 5 * (4 * 8 + 8 * 3)  # forward and backward
    elif tool == "profiler":
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            grads = step(entry)
        assert any("mm" in event.key for event in profiler.key_averages())
    else:
        with Counting() as counting:
            grads = step(entry)
        assert counting.calls > 20
    for name, grad in expected.items():
        assert torch.equal(grads[name], grad)


def test_a_hook_on_a_tensor_sees_the_gradient_of_one_sample():
    seen = []

    def loss(params, x):
        y = params["w"] @ x
        y.register_hook(lambda grad: seen.append(grad.shape))
        z = y * 3.0
        z.register_hook(lambda grad: grad.cumsum(0))
        return z @ torch.tensor([1.0, 2.0, 3.0])

    params, x = {"w": torch.ones(3, 2)}, torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    dense, _ = dp.per_sample_grad_and_loss(loss)(params, x)
    factored, _ = dp.factored_grad(loss)(params, x)
    by_hand = 3.0 * torch.tensor([1.0, 3.0, 6.0])[None, :, None] * x[:, None, :]
    torch.testing.assert_close(dense["w"], by_hand)
    torch.testing.assert_close(factored["w"].dense(), by_hand)
    assert set(seen) == {torch.Size([3])}
