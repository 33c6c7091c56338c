"""A benchmark is fair only where all take the same step: without noise they end at one model."""

import pytest
import torch
from torch import Tensor, nn

import dpfunc as dp
from benchmarks.contenders import dpfunc_steps, opacus_steps, opake_steps, plain
from benchmarks.contenders.contract import LEARNING_RATE, MAX_NORM
from benchmarks.workloads.workload import Workload, classification

CONTENDERS = {
    "dpfunc": dpfunc_steps.without_noise,
    "dpfunc in microbatches": dpfunc_steps.microbatched,
    "dpfunc compiled": dpfunc_steps.compiled,
    "dpfunc replayed": dpfunc_steps.replayed,
    "dpfunc dense": dpfunc_steps.dense,
    "Opacus hooks": opacus_steps.hooks,
    "Opacus functorch": opacus_steps.functorch,
    "Opacus ghost": opacus_steps.ghost,
    "opake": opake_steps.step,
    "Python loop": plain.python_loop,
}


def workload() -> Workload:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)]
        inputs, labels = 5 * torch.randn(6, 1, 6, 6), torch.randint(3, (6,))
        return Workload(nn.Sequential(*layers), inputs, labels, classification)


def stepped_by_hand(work: Workload) -> list[Tensor]:
    """One step of DP-SGD without noise, from the definition."""
    params = dict(work.model.named_parameters())

    def loss(params, x, y):
        return work.losses(torch.func.functional_call(work.model, params, (x[None],)), y[None])[0]

    grads = dp.per_sample_grad(loss)(dp.named_params(work.model), work.inputs, work.labels)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    assert (norms > MAX_NORM).any()
    weights = (MAX_NORM / norms).clamp(max=1.0) / len(norms)
    return [
        (param - LEARNING_RATE * torch.einsum("b,b...->...", weights, grads[name])).detach()
        for name, param in params.items()
    ]


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_takes_the_same_step(name, monkeypatch):
    for package in ("opacus", "opake"):
        if package in name.lower():
            pytest.importorskip(package, reason=f'needs {package}: pip install ".[bench]"')
    for module in (dpfunc_steps, opacus_steps, opake_steps, plain):
        monkeypatch.setattr(module, "NOISE_MULTIPLIER", 0.0)
    work = workload()
    step = CONTENDERS[name](work)
    step.take()
    params = [param.detach() for param in step.model.parameters()]
    for actual, expected, start in zip(
        params, stepped_by_hand(work), work.model.parameters(), strict=True
    ):
        torch.testing.assert_close(actual - start, expected - start, rtol=1e-3, atol=1e-8)
