"""PyTorch by itself: without privacy, and with it in the most obvious way."""

import torch

from benchmarks.contenders.contract import (
    MAX_NORM,
    NOISE_MULTIPLIER,
    Step,
    model_and_optimizer,
    trainable,
)
from benchmarks.workloads.workload import Workload


def plain(work: Workload) -> Step:
    """PyTorch without privacy: what the ratios are to."""
    model, optimizer = model_and_optimizer(work)

    def step() -> None:
        optimizer.zero_grad()
        work.losses(model(work.inputs), work.labels).mean().backward()
        optimizer.step()

    return Step(step, model)


def python_loop(work: Workload) -> Step:
    """Microbatches of one in a Python loop: what every tutorial starts with."""
    model, optimizer = model_and_optimizer(work)
    params = trainable(model)

    def step() -> None:
        total = [torch.zeros_like(param) for param in params]
        for x, y in zip(work.inputs, work.labels, strict=True):
            loss = work.losses(model(x[None]), y[None])[0]
            grads = torch.autograd.grad(loss, params)
            norm = torch.stack([grad.norm() for grad in grads]).norm()
            scale = (MAX_NORM / norm).clamp(max=1.0)
            for sum_, grad in zip(total, grads, strict=True):
                sum_ += scale * grad
        for param, sum_ in zip(params, total, strict=True):
            sum_ += NOISE_MULTIPLIER * MAX_NORM * torch.randn_like(sum_)
            param.grad = sum_ / len(work.labels)
        optimizer.step()

    return Step(step, model)
