"""opake: vmap over grad, then clipping; the whole batch at once was faster than microbatches.

Attention runs by the maths kernel, which is faster under vmap than what opake does by itself.
"""

from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import dpfunc as dp
from benchmarks.contenders.contract import MAX_NORM, NOISE_MULTIPLIER, Step, model_and_optimizer
from benchmarks.workloads.workload import Workload


def step(work: Workload) -> Step:
    from opake.dpsgd.clipping import clipped_grad
    from opake.dpsgd.noise import gaussian_noise
    from opake.random import key

    model, optimizer = model_and_optimizer(work)
    params = dp.named_params(model)

    def loss_fn(params, x, y):
        return work.losses(functional_call(model, params, (x[None],)), y[None])[0]

    clipped, clip_state = clipped_grad(
        loss_fn,
        clipping_norm=MAX_NORM,
        batch_argnums=(1, 2),
        normalize_by=len(work.labels),
    )
    noise, noise_state = gaussian_noise(noise_multiplier=NOISE_MULTIPLIER, key=key(1))

    def take() -> None:
        nonlocal clip_state, noise_state
        with sdpa_kernel(SDPBackend.MATH):  # vmap would run the fused kernels sample by sample
            grads, clip_state = clipped(params, work.inputs, work.labels, state=clip_state)
        noisy, noise_state = noise(grads, noise_state)
        dp.set_grads_(model, noisy.pytree)
        optimizer.step()

    return Step(take, model)
