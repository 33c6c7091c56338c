"""One source for what a run costs: the noise knows how much, the sampler who takes part.

The event is made of both. It is asked for once when a `PrivateGrad` is made, so that a pair without
a theorem is refused before the first step.
"""

import math
from typing import Any

from dpfunc.accounting import Event
from dpfunc.checks import require
from dpfunc.sampling.scheme import Sampler
from dpfunc.types import NoiseMechanism, State


def require_theorem(sampler: Any, noise: NoiseMechanism, expected_batch_size: float) -> None:
    """ValueError unless it is known what this sampler and this noise cost together."""
    methods = ("batch", "participation", "event")
    require(
        all(callable(getattr(sampler, method, None)) for method in methods),
        "PrivateGrad",
        f"a sampler with the methods {', '.join(methods)}",
        type(sampler).__name__,
        "pass sampler=dpfunc.sampling.CyclicPoisson(...), say",
        error=TypeError,
    )
    require(
        hasattr(noise, "noise_multiplier"),
        "PrivateGrad",
        "a noise mechanism with a noise_multiplier beside a sampler",
        type(noise).__name__,
        "pass dpfunc.GaussianNoise or dpfunc.CorrelatedNoise",
        error=TypeError,
    )
    require(
        math.isclose(expected_batch_size, sampler.expected_batch_size, rel_tol=1e-6),
        "PrivateGrad",
        f"expected_batch_size={sampler.expected_batch_size}, that of the sampler",
        expected_batch_size,
        "pass sampler.expected_batch_size",
    )
    strategy = getattr(noise, "strategy", None)
    steps = 1 if strategy is None else strategy.steps
    sampler.event(noise.noise_multiplier, steps=steps, strategy=strategy)  # type: ignore[attr-defined]


def sampled_event(sampler: Sampler, noise: Any, state: State) -> Event:
    """What the steps up to the noise's ``state`` released."""
    return sampler.event(
        noise.noise_multiplier, steps=state["step"], strategy=getattr(noise, "strategy", None)
    )
