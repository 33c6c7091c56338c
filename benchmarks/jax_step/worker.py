"""A process with JAX that takes a step for each line ``step`` on its standard input.

    python -m benchmarks.jax_step.worker WORKLOAD BATCH_SIZE THREADS plain|private MICROBATCH_SIZE

A microbatch size of 0 is none. It answers ``ready PARAMETERS``, and to each step ``done PEAK_MIB``,
the peak since the first step, which compiles, above what the process held before it built the step.
It ends with its input. It runs in an environment of its own, so it imports nothing of torch.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.process_memory import peak, reset_peak, resident


def build(
    workload: str, size: int, private: bool, microbatch_size: int
) -> tuple[int, Callable[[], None]]:
    """The number of parameters, and a function that takes one step and waits for it."""
    import jax
    import jax_privacy
    import optax
    from jax_privacy import noise_addition

    from benchmarks.jax_step.models import MODELS

    max_norm, noise_multiplier, learning_rate = 1.0, 1.0, 1e-3  # as in contenders.contract
    work = MODELS[workload](size)
    optimizer = optax.sgd(learning_rate)
    if private:
        gradient = jax_privacy.clipped_grad(
            work.loss,
            l2_clip_norm=max_norm,
            batch_argnums=(1, 2),
            normalize_by=size,
            microbatch_size=microbatch_size or None,
        )
        privatizer = noise_addition.gaussian_privatizer(
            stddev=noise_multiplier * max_norm / size, prng_key=jax.random.key(0)
        )
        optimizer = optax.chain(privatizer, optimizer)
    else:
        gradient = jax.grad(work.loss)

    @jax.jit
    def update(params: Any, state: Any, inputs: Any, labels: Any) -> Any:
        updates, state = optimizer.update(gradient(params, inputs, labels), state)
        return optax.apply_updates(params, updates), state

    params, state = work.params, optimizer.init(work.params)

    def step() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(update(params, state, work.inputs, work.labels))

    return sum(leaf.size for leaf in jax.tree.leaves(params)), step


def main() -> None:
    workload, size, threads, kind, microbatch_size = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])  # XLA counts these
    import jax

    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))  # loads what every step needs
    before = resident()
    parameters, step = build(workload, int(size), kind == "private", int(microbatch_size))
    print("ready", parameters, flush=True)
    for taken, _ in enumerate(sys.stdin):
        step()
        if taken == 0:
            reset_peak()
        print("done", peak() - before, flush=True)


if __name__ == "__main__":
    main()
