"""One training step by each library: forward, backward, clip, noise, update; same model and batch.

Each builder takes a `Workload` and returns a function that takes one step.
"""

import copy
from collections.abc import Callable

import torch
from torch.func import functional_call

import dpfunc as dp
from benchmarks.workloads import Workload

MAX_NORM, NOISE_MULTIPLIER, LEARNING_RATE = 1.0, 1.0, 1e-3
Step = Callable[[], None]


def plain(work: Workload) -> Step:
    """PyTorch without privacy: what the ratios are to."""
    model = copy.deepcopy(work.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        work.losses(model(work.inputs), work.labels).mean().backward()
        optimizer.step()

    return step


def _dpfunc(work: Workload, engine: str, noise: float, microbatch: int | None = None) -> Step:
    model = copy.deepcopy(work.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def loss_fn(params, x, y):
        return work.losses(functional_call(model, params, (x[None],)), y[None])[0]

    params = dp.named_params(model)
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(MAX_NORM),
        noise=dp.GaussianNoise(noise, key=dp.key()),
        expected_batch_size=len(work.labels),
        microbatch_size=microbatch,
        engine=engine,
    )
    state = private.init(params)

    def step() -> None:
        nonlocal state
        grads, state, _ = private.update(params, (work.inputs, work.labels), state)
        dp.set_grads_(model, grads)
        optimizer.step()

    return step


def dpfunc_factored(work: Workload) -> Step:
    return _dpfunc(work, "factored", NOISE_MULTIPLIER)


def dpfunc_without_noise(work: Workload) -> Step:
    """The same with noise_multiplier 0: the rest of the factored step is noise generation."""
    return _dpfunc(work, "factored", 0.0)


def dpfunc_dense(work: Workload) -> Step:
    """vmap over grad, in microbatches of 16 for the memory."""
    return _dpfunc(work, "dense", NOISE_MULTIPLIER, microbatch=16)


def python_loop(work: Workload) -> Step:
    """Microbatches of one in a Python loop: what every tutorial starts with."""
    model = copy.deepcopy(work.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    params = list(model.parameters())

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

    return step


def _opacus(work: Workload, **options: bool) -> Step:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model = GradSampleModule(copy.deepcopy(work.model), **options)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        expected_batch_size=len(work.labels),
    )

    def step() -> None:
        optimizer.zero_grad()
        work.losses(model(work.inputs), work.labels).mean().backward()
        optimizer.step()

    return step


def opacus_hooks(work: Workload) -> Step:
    return _opacus(work)


def opacus_functorch(work: Workload) -> Step:
    return _opacus(work, force_functorch=True)


def opacus_ghost(work: Workload) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    model = GradSampleModuleFastGradientClipping(
        copy.deepcopy(work.model), max_grad_norm=MAX_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        expected_batch_size=len(work.labels),
    )

    class Criterion:
        """The protocol that Opacus expects: losses of the whole batch, or of each sample."""

        reduction = "mean"

        def __call__(self, logits, labels, **_):
            losses = work.losses(logits, labels)
            return losses if self.reduction == "none" else losses.mean()

    criterion = DPLossFastGradientClipping(model, optimizer, Criterion(), "mean")

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(work.inputs), work.labels).backward()
        optimizer.step()

    return step


CONTENDERS: dict[str, Callable[[Workload], Step]] = {
    "plain PyTorch": plain,
    "dpfunc": dpfunc_factored,
    "dpfunc without noise": dpfunc_without_noise,
    "dpfunc dense": dpfunc_dense,
    "Opacus hooks": opacus_hooks,
    "Opacus functorch": opacus_functorch,
    "Opacus ghost": opacus_ghost,
    "Python loop": python_loop,
}
