"""What `audit.check_step` says of Opacus's two ways to clip, and of dpfunc, on four models.

    python -m benchmarks.opacus_check_step

A cell has the number of findings by severity and the largest ratio of a movement to its bound. It
needs opacus (`pip install ".[bench]"`).
"""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dpfunc as dp
from dpfunc import audit

BOUND = 1.0
Adapter = dict[str, Any]


class Case(NamedTuple):
    """A model, a batch of it, and its loss: of each record, or their sum."""

    name: str
    model: nn.Module
    batch: tuple[Tensor, Tensor]
    loss: Callable[[str], nn.Module]


class Tokens(nn.Module):
    """Five classes for each of seven tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x).tanh()).transpose(1, 2)


class TokenMean(nn.Module):
    """The mean over all tokens of the batch that count, times the batch size: records share it."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        counts = labels > 0
        losses = F.cross_entropy(logits, labels, reduction="none") * counts
        share = len(labels) / counts.sum().clamp(min=1)
        return losses.sum(1) * share if self.reduction == "none" else losses.sum() * share


def cases() -> list[Case]:
    torch.manual_seed(0)
    images = dp.normal(dp.key(5), (6, 1, 8, 8)), torch.arange(6) % 3
    tokens = dp.normal(dp.key(6), (5, 7, 4)), torch.arange(35).view(5, 7) * 2 % 5
    return [
        *(
            Case(f"convolution, padding {mode}", _convolution(mode), images, _cross_entropy)
            for mode in ("zeros", "circular", "reflect")
        ),
        Case("mean over the tokens of the batch", Tokens(), tokens, TokenMean),
    ]


def _convolution(mode: str) -> nn.Module:
    layer = nn.Conv2d(1, 4, 3, padding=2, padding_mode=mode)
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10 * 10, 3))


def _cross_entropy(reduction: str) -> nn.Module:
    return nn.CrossEntropyLoss(reduction=reduction)


def by_hooks(case: Case) -> Adapter:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model = copy.deepcopy(case.model)
    wrapped = GradSampleModule(model, loss_reduction="sum")
    return _of_opacus(case, model, wrapped, DPOptimizer, lambda _: case.loss("sum"))


def by_ghost(case: Case) -> Adapter:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    model = copy.deepcopy(case.model)
    wrapped = GradSampleModuleFastGradientClipping(
        model, max_grad_norm=BOUND, use_ghost_clipping=True, loss_reduction="sum"
    )

    def loss(optimizer: Any) -> Any:
        return DPLossFastGradientClipping(
            wrapped, optimizer, case.loss("sum"), loss_reduction="sum"
        )

    return _of_opacus(case, model, wrapped, DPOptimizerFastGradientClipping, loss)


def _of_opacus(case: Case, model: nn.Module, wrapped: Any, kind: Any, loss_of: Any) -> Adapter:
    optimizer = kind(
        torch.optim.SGD(model.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=BOUND,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    loss, plain = loss_of(optimizer), copy.deepcopy(case.model)

    def summed(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        optimizer.zero_grad()
        loss(wrapped(batch[0]), batch[1]).backward()
        optimizer.pre_step()
        return {name: param.grad.clone() for name, param in model.named_parameters()}

    def plain_grad(record: tuple[Tensor, ...]) -> dict[str, Tensor]:
        params = dict(plain.named_parameters())
        value = case.loss("sum")(plain(record[0]), record[1])
        return dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True))

    return {"summed": summed, "batch": case.batch, "bound": BOUND, "plain_grad": plain_grad}


def by_dpfunc(case: Case) -> Adapter:
    """The loss is that of one record, which is all that dpfunc asks for."""

    def loss_fn(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.func.functional_call(case.model, params, (x[None],))
        return case.loss("sum")(outputs, y[None])

    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(BOUND),
        noise=dp.GaussianNoise(1.0, key=dp.key()),
        expected_batch_size=1,
    )
    return audit.of_private_grad(private, dp.named_params(case.model), case.batch)


WAYS = {"Opacus hooks": by_hooks, "Opacus ghost clipping": by_ghost, "dpfunc": by_dpfunc}


def cell(report: audit.Report) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
    return f"{found}; {report.worst:.4f}"


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"| model | {' | '.join(WAYS)} |\n" + "|---" * (len(WAYS) + 1) + "|")
    for case in cases():
        found = [cell(audit.check_step(**way(case))) for way in WAYS.values()]
        print(f"| {case.name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
