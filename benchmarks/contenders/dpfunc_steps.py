"""dpfunc: factored, dense, and compiled."""

import torch
from torch.func import functional_call

import dpfunc as dp
from benchmarks.contenders.contract import MAX_NORM, NOISE_MULTIPLIER, Step, model_and_optimizer
from benchmarks.workloads.workload import Workload
from dpfunc.engine.batches import Drawn


def _step(
    work: Workload,
    *,
    engine: str = "factored",
    noise_multiplier: float | None = None,
    microbatch_size: int | None = None,
    backend: str | None = None,
) -> Step:
    model, optimizer = model_and_optimizer(work)
    multiplier = NOISE_MULTIPLIER if noise_multiplier is None else noise_multiplier

    def loss_fn(params, x, y):
        return work.losses(functional_call(model, params, (x[None],)), y[None])[0]

    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(MAX_NORM),
        noise=dp.GaussianNoise(multiplier, key=dp.key()),
        expected_batch_size=len(work.labels),
        microbatch_size=microbatch_size,
        engine=engine,
    )
    private = dp.compile(private, backend=backend) if backend else private
    params = dp.named_params(model)
    state = private.init(params)

    def step() -> None:
        nonlocal state
        grads, state, _ = private.update(params, (work.inputs, work.labels), state)
        dp.set_grads_(model, grads)
        optimizer.step()

    return Step(step, model)


def factored(work: Workload) -> Step:
    return _step(work)


def without_noise(work: Workload) -> Step:
    """The same with noise_multiplier 0: the rest of the factored step is noise generation."""
    return _step(work, noise_multiplier=0.0)


def compiled(work: Workload) -> Step:
    return _step(work, backend="inductor")


def replayed(work: Workload) -> Step:
    return _step(work, backend="replay")


def microbatched(work: Workload) -> Step:
    """Factored, 256 samples at a time."""
    return _step(work, microbatch_size=256)


def dense(work: Workload) -> Step:
    """vmap over grad, in microbatches of 16 for the memory."""
    return _step(work, engine="dense", microbatch_size=16)


def engine(work: Workload) -> Step:
    """The ordinary loop of `PrivacyEngine`, on a batch that is at hand like everybody's."""
    model, optimizer = model_and_optimizer(work)
    size = len(work.labels)
    attached = dp.PrivacyEngine(
        model.train(),
        sample_size=size,
        batch_size=size,
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        delta=1e-5,
        key=dp.key(),
    ).attach(optimizer)
    mask = torch.ones(size, dtype=torch.bool)

    def step() -> None:
        x, y = work.inputs, work.labels
        attached.announce(Drawn(attached.steps_taken, (), mask, last=True), [x, y])
        work.losses(model(x), y).mean().backward()
        optimizer.step()

    return Step(step, model)
