"""The training loops of the demo: DP-SGD as a user of dpfunc writes it, and without privacy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dpfunc as dp
from dpfunc import accounting
from dpfunc.commands.demo.data import Images


@dataclass(frozen=True)
class Plan:
    """What to train: the budget, the mechanism and the optimiser."""

    target_epsilon: float
    delta: float
    sample_rate: float
    steps: int
    noise_multiplier: float
    max_norm: float = 0.1
    learning_rate: float = 4.0
    plain_learning_rate: float = 0.1
    momentum: float = 0.9
    microbatch_size: int = 512
    evaluate_every: int = 4  # a look at the test images costs as much as a plain step


class Progress(NamedTuple):
    """After ``step`` steps, which have spent ``epsilon``; the accuracy is that of the last look.

    The loss is not private: it is the mean over the batch just seen.
    """

    step: int
    loss: float
    accuracy: float
    epsilon: float


def tanh_cnn(key: dp.Key) -> nn.Module:
    """The network with 26,010 parameters of Papernot et al. 2020 and Tramer and Boneh 2021.

    Bounded activations suit clipped gradients (arXiv:2007.14191; arXiv:2011.11660). All
    its randomness comes from ``key``.
    """
    model = nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3),
        nn.Tanh(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.Tanh(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )
    for name, param in dp.named_params(model).items():
        fan_in = math.prod(param.shape[1:])
        scale = math.sqrt(1 / (3 * fan_in)) if param.dim() > 1 else 0.0
        param.copy_(scale * dp.normal(dp.fold_in(key, "init", name), param.shape))
    return model


def train_private(model: nn.Module, data: Images, plan: Plan, key: dp.Key) -> Iterator[Progress]:
    """Train ``model`` in place, one `Progress` a step, and stop before the budget is exceeded."""

    def loss_fn(params: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, params, (image[None],))
        return F.cross_entropy(logits, label[None])

    params = dp.named_params(model)
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(plan.max_norm),
        noise=dp.GaussianNoise(plan.noise_multiplier, key=key),
        expected_batch_size=plan.sample_rate * len(data.train_y),
        microbatch_size=plan.microbatch_size,
    )
    state = private.init(params)
    optimizer = _optimizer(model, plan.learning_rate, plan)
    correct = 0.0
    steps = _affordable_steps(plan)
    budget = accounting.BudgetCurve(_event(1, plan), delta=plan.delta, planned=steps)
    for step in range(steps):
        batch = _poisson_batch(data, plan, key, step)
        grads, state, aux = private.update(params, batch, state)
        dp.set_grads_(model, grads)
        optimizer.step()
        if _is_due(step, steps, plan):
            correct = accuracy(model, data)
        yield Progress(step + 1, _mean(aux.losses), correct, budget(step + 1))


def train_plain(model: nn.Module, data: Images, plan: Plan, key: dp.Key) -> Iterator[Progress]:
    """The same steps on the same batches without clipping or noise: what privacy costs."""
    optimizer = _optimizer(model, plan.plain_learning_rate, plan)
    correct = 0.0
    for step in range(plan.steps):
        images, labels = _poisson_batch(data, plan, key, step)
        optimizer.zero_grad()
        losses = F.cross_entropy(model(images), labels, reduction="none")
        torch.autograd.backward(losses.sum() / max(1, len(labels)))
        optimizer.step()
        if _is_due(step, plan.steps, plan):
            correct = accuracy(model, data)
        yield Progress(step + 1, _mean(losses.detach()), correct, math.inf)


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """The share of test images that ``model`` labels correctly."""
    labels = torch.cat([model(images).argmax(1) for images in torch.split(data.test_x, 1000)])
    return float((labels == data.test_y).double().mean())


def _is_due(step: int, steps: int, plan: Plan) -> bool:
    """Whether to look at the accuracy: every ``evaluate_every`` steps and at the end."""
    return (step + 1) % plan.evaluate_every == 0 or step + 1 == steps


def _poisson_batch(data: Images, plan: Plan, key: dp.Key, step: int) -> tuple[Tensor, Tensor]:
    indices, _ = dp.sampling.poisson(
        key, step, size=len(data.train_y), rate=plan.sample_rate, device=data.train_y.device
    )
    return data.train_x[indices], data.train_y[indices]


def _affordable_steps(plan: Plan) -> int:
    """As many of the planned steps as stay within the budget."""
    if accounting.epsilon(_event(plan.steps, plan), delta=plan.delta) <= plan.target_epsilon:
        return plan.steps
    return accounting.steps(
        target_epsilon=plan.target_epsilon,
        delta=plan.delta,
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
    )


def _event(steps: int, plan: Plan) -> accounting.Event:
    return accounting.dp_sgd(
        noise_multiplier=plan.noise_multiplier, sample_rate=plan.sample_rate, steps=steps
    )


def _optimizer(model: nn.Module, learning_rate: float, plan: Plan) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=plan.momentum)


def _mean(losses: Tensor) -> float:
    return float(losses.mean()) if len(losses) else math.nan
