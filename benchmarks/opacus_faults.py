"""How far one record moves the clipped sum, in Opacus and in dpfunc, where Opacus errs.

    python -m benchmarks.opacus_faults

A record alone is the batch, noise is off, and the clipping norm C is a tenth of the record's true
gradient norm. Each cell gives the length of the "clipped" gradient in units of C, which must not be
above 1 (the noise is scaled to 1), and its distance from the true clipped gradient, which must be
0. The truth is plain autograd.
"""

import math
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dpfunc as dp

Grads = dict[str, Tensor]
Way = Callable[[nn.Module, Tensor, float], Grads]


class Case(NamedTuple):
    """A module with the batch of one record that it is run on."""

    name: str
    module: nn.Module
    record: Tensor  # [1, ...]


class Outcome(NamedTuple):
    """``length`` and ``error`` in clipping norms, or why there are none."""

    length: float = math.nan
    error: float = math.nan
    refusal: str = ""

    def __str__(self) -> str:
        return self.refusal or f"{self.length:.2f}, off by {self.error:.2f}"


class Bag(nn.Module):
    """An embedding bag that is told where each record begins."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(10, 4, mode="sum")

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids.flatten(), torch.arange(len(ids)) * ids.shape[1])


class Tied(nn.Module):
    """One table for input and output, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.output = nn.Linear(4, 10, bias=False)
        self.output.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.output(torch.tanh(self.table(ids)))


class Functional(nn.Module):
    """A weight used by a function, and with ``also_called`` by its module as well."""

    def __init__(self, *, also_called: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.also_called = also_called

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x) if self.also_called else x
        return F.linear(torch.tanh(x), self.layer.weight)


class Outputs(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def cases() -> list[Case]:
    """What is compared; the ids of a record repeat, as words do."""
    torch.manual_seed(0)
    image, ids, row = torch.randn(1, 2, 6, 6), torch.tensor([[1, 1, 1, 2, 0, 0]]), torch.randn(1, 4)
    steps, broken = torch.randn(1, 5, 4), torch.full((1, 4), math.inf)
    return [
        Case("Conv2d, padding_mode='circular'", _padded("circular"), image),
        Case("Conv2d, padding_mode='reflect'", _padded("reflect"), image),
        Case("EmbeddingBag, ids that repeat", Bag(), ids),
        Case("Embedding, padding_idx", nn.Embedding(10, 4, padding_idx=0), ids),
        Case("Embedding, scale_grad_by_freq", nn.Embedding(10, 4, scale_grad_by_freq=True), ids),
        Case("input and output embedding tied", Tied(), ids),
        Case("a layer called twice", nn.Sequential(*[nn.Linear(4, 4)] * 2), row),
        Case("a weight used by a layer and a function", Functional(also_called=True), row),
        Case("a weight used by a function alone", Functional(also_called=False), row),
        Case("Linear on [B, T, S, d]", nn.Linear(4, 3), torch.randn(1, 3, 2, 4)),
        Case("nn.LSTM", Outputs(nn.LSTM(4, 4, batch_first=True)), steps),
        Case("nn.GRU", Outputs(nn.GRU(4, 4, batch_first=True)), steps),
        Case("a record with an infinite value", nn.Linear(4, 3), broken),
    ]


def _padded(mode: str) -> nn.Module:
    return nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)


def losses(outputs: Tensor) -> Tensor:
    """``[B]``: a loss of each record whose gradient is nowhere zero by symmetry."""
    outputs = outputs.flatten(1)
    return (outputs.square() + outputs * torch.arange(outputs.shape[1]).sin()).sum(1)


def flat(grads: Grads) -> Tensor:
    return torch.cat([grad.flatten() for grad in grads.values()])


def by_autograd(module: nn.Module, record: Tensor) -> Grads:
    params = dict(module.named_parameters())
    grads = torch.autograd.grad(losses(module(record)).sum(), list(params.values()))
    return dict(zip(params, grads, strict=True))


def by_hooks(module: nn.Module, record: Tensor, max_norm: float) -> Grads:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model = GradSampleModule(module)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=max_norm,
        expected_batch_size=1,
    )
    losses(model(record)).mean().backward()
    optimizer.step()
    return _grads(model)


def by_ghost(module: nn.Module, record: Tensor, max_norm: float) -> Grads:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    class Criterion:
        reduction = "mean"

        def __call__(self, outputs: Tensor) -> Tensor:
            each = losses(outputs)
            return each if self.reduction == "none" else each.mean()

    model = GradSampleModuleFastGradientClipping(
        module, max_grad_norm=max_norm, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=max_norm,
        expected_batch_size=1,
    )
    DPLossFastGradientClipping(model, optimizer, Criterion(), "mean")(model(record)).backward()
    optimizer.step()
    return _grads(model)


def by_dpfunc(module: nn.Module, record: Tensor, max_norm: float) -> Grads:
    def loss_fn(params: Grads, one: Tensor) -> Tensor:
        return losses(torch.func.functional_call(module, params, (one[None],)))[0]

    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(max_norm),
        noise=dp.GaussianNoise(0.0, key=dp.key()),
        expected_batch_size=1,
    )
    params = dp.named_params(module)
    return private.update(params, record, private.init(params))[0]


WAYS: dict[str, Way] = {"Opacus hooks": by_hooks, "Opacus ghost": by_ghost, "dpfunc": by_dpfunc}


def _grads(model: nn.Module) -> Grads:
    """What the step left in ``.grad``; no gradient is no movement."""
    return {
        name.removeprefix("_module."): torch.zeros_like(param) if param.grad is None else param.grad
        for name, param in model.named_parameters()
    }


def outcome(case: Case, way: Way) -> Outcome:
    """What became of the record."""
    truth = by_autograd(case.module, case.record)
    norm = float(flat(truth).norm())
    max_norm, expected = norm / 10, flat(truth) / 10
    if not math.isfinite(norm):  # such a record is to be left out
        max_norm, expected = 1.0, torch.zeros_like(expected)
    try:
        found = way(case.module, case.record, max_norm)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        return Outcome(refusal=f"{type(error).__name__}: {str(error).splitlines()[0][:60]}")
    moved = flat({name: found[name] for name in truth})
    return Outcome(float(moved.norm()) / max_norm, float((moved - expected).norm()) / max_norm)


def secure_mode() -> str:
    """What Opacus says when asked for noise that cannot be predicted."""
    from opacus import PrivacyEngine

    try:
        PrivacyEngine(secure_mode=True)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return "works"


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"opacus {version('opacus')}, torch {torch.__version__}\n")
    print(f"| case | {' | '.join(WAYS)} |")
    print("|---" * (len(WAYS) + 1) + "|")
    # Fresh modules for each way: Opacus leaves hooks behind.
    for same in zip(*(cases() for _ in WAYS), strict=True):
        outcomes = map(outcome, same, WAYS.values())
        print(f"| {same[0].name} | {' | '.join(map(str, outcomes))} |")
    print(f"\nsecure_mode: {secure_mode()}")


if __name__ == "__main__":
    main()
