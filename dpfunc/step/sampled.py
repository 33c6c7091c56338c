"""One source for what a run costs: the noise knows how much, the sampler who takes part.

The event is made of both, and of what a clip rule learns. It is asked for once when a `PrivateGrad`
is made, so that a pair without a theorem is refused before the first step.
"""

import math
from typing import Any

import torch

from dpfunc.accounting import Event
from dpfunc.checks import is_real, require
from dpfunc.sampling.afresh import FixedSize, Poisson, TruncatedPoisson
from dpfunc.sampling.cyclic import CyclicPoisson
from dpfunc.sampling.scheme import Sampler
from dpfunc.types import ClipRule, NoiseMechanism, State


def require_theorem(
    sampler: Any, noise: NoiseMechanism, clip: ClipRule, expected_batch_size: float
) -> None:
    """ValueError unless it is known what these cost together."""
    if sampler is not None:
        _require_sampler(sampler, expected_batch_size)
    query = query_of(clip)
    require(
        is_real(query) and query > 0,
        "PrivateGrad",
        "a clip rule with a query_multiplier > 0",
        query,
        "the noise over the sensitivity of what the rule learns, math.inf for nothing private",
        error=TypeError,
    )
    if sampler is None and query == math.inf:
        return
    require(
        hasattr(noise, "noise_multiplier"),
        "PrivateGrad",
        "a noise mechanism with a noise_multiplier beside a sampler, or a clip rule that learns",
        type(noise).__name__,
        "pass dpfunc.GaussianNoise or dpfunc.CorrelatedNoise",
        error=TypeError,
    )
    strategy = getattr(noise, "strategy", None)
    steps = 1 if strategy is None else strategy.steps
    if query < math.inf:
        require(
            getattr(clip, "key", None) == getattr(noise, "key", None),
            "PrivateGrad",
            "a clip rule with the key of the noise",
            "another",
            "pass the same key to both: a run has one",
        )
        # Counts are not correlated: one participation of both is one Gaussian release, and so are
        # orthogonal ones; what a strategy costs without amplification is something else.
        alone = strategy is None or strategy.bands == 1
        require(
            alone or isinstance(sampler, CyclicPoisson),
            "PrivateGrad",
            "cyclic Poisson samples for a clip rule that learns beside correlated noise",
            type(sampler).__name__,
            "pass sampler=dpfunc.sampling.CyclicPoisson(...)",
        )
    if sampler is not None:
        sampler.event(joint_multiplier(noise, clip), steps=steps, strategy=strategy)


def query_of(clip: object) -> float:
    """Noise over sensitivity of what a clip rule learns from the norms; infinite for nothing."""
    query: float = getattr(clip, "query_multiplier", math.inf)
    return query


def require_learns_nothing(subject: str, clip: object, remedy: str) -> None:
    """ValueError for a rule that learns, where the event counts gradients alone."""
    require(
        query_of(clip) == math.inf,
        subject,
        "a clip rule that learns nothing",
        type(clip).__name__,
        remedy,
    )


def require_same_query(clip: object, state: object) -> None:
    """ValueError for the state of a rule that learned with other noise, or of one that learned.

    The event counts all steps by the rule of now: what was learned before would be left out.
    """
    own = query_of(clip)
    before = state.get("query_multiplier", own) if isinstance(state, dict) else own
    require(
        before == own,
        "PrivateGrad.resume",
        f"the state of a clip rule with a query_multiplier of {own:g}",
        before,
        "make the clip rule as it was, or begin a new run with init and compose both events",
    )


def require_branch(sampler: Any, *, is_own: bool) -> None:
    """ValueError for a branch with a new key where a record's steps hang together.

    A record that was in its group of the old key comes again in that of the new one, sooner than
    the event of all steps knows.
    """
    require(
        is_own or sampler is None or isinstance(sampler, Poisson | TruncatedPoisson | FixedSize),
        "PrivateGrad.resume",
        "the key of the run, beside a sampler whose steps hang together",
        f"another, beside {type(sampler).__name__}",
        "for a branch begin a new PrivateGrad with init, with a new key for the sampler as well, "
        "and compose the events of both",
    )


def joint_multiplier(noise: Any, clip: ClipRule) -> float:
    """Of the gradient and of what the clip rule asks of the same samples, as one release."""
    return joint_of(float(noise.noise_multiplier), clip)


def joint_of(noise_multiplier: float, clip: object) -> float:
    """Two Gaussian releases of s and q on the same records are one of z, ``1 / z**2 = 1 / s**2 +
    1 / q**2``: both shifts are one vector (Andrew et al. 2021, arXiv:1905.03871, theorem 1).
    """
    query = query_of(clip)
    if query == math.inf or noise_multiplier == 0:
        return noise_multiplier
    return float((noise_multiplier**-2 + query**-2) ** -0.5) * (1 - 2.0**-48)


def left_by(clip: object, joint: float) -> float:
    """The least noise multiplier of the gradient for which `joint_of` is at least ``joint``.

    ValueError where what the clip rule learns costs more alone.
    """
    query = query_of(clip)
    if query == math.inf or joint == 0:
        return joint
    left = joint**-2 - query**-2
    require(
        left > 0,
        type(clip).__name__,
        f"a query_multiplier above {joint:g}, the noise multiplier of the whole run",
        query,
        "learn with more noise, such as count_noise=expected_batch_size / 20, or from larger "
        "batches",
    )
    return float(left**-0.5) * (1 + 2.0**-40)


def event_of(
    sampler: Sampler | None,
    noise: Any,
    clip: ClipRule,
    state: State,
    sample_rate: float | None,
) -> Event:
    """What the steps up to ``state``, that of the noise, released."""
    require(
        (sampler is None) != (sample_rate is None),
        "PrivateGrad.event",
        "a sample_rate, or a sampler that knows it",
        sample_rate,
        "pass the rate of sampling.poisson, or sampler= to PrivateGrad",
    )
    if sampler is None:
        plain: Event = noise.event(state, sample_rate=sample_rate)
        if query_of(clip) == math.inf:
            return plain
        sampler = Poisson(size=1, rate=sample_rate or 0.0)
    strategy = getattr(noise, "strategy", None)
    return sampler.event(joint_multiplier(noise, clip), steps=state["step"], strategy=strategy)


def require_told(clip: ClipRule, before: State, after: State) -> None:
    """TypeError for a rule whose state moves, and that does not say what it learns from."""
    require(
        hasattr(clip, "query_multiplier") or _alike(before, after),
        "PrivateGrad",
        "a clip rule with a query_multiplier, as its update changes its state",
        type(clip).__name__,
        "say how private what it learns is: noise over sensitivity, or math.inf for a rule that "
        "reads no norms",
        error=TypeError,
    )


def _alike(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_alike, left, right))
    return bool(left == right)


def _require_sampler(sampler: Any, expected_batch_size: float) -> None:
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
        math.isclose(expected_batch_size, sampler.expected_batch_size, rel_tol=1e-6),
        "PrivateGrad",
        f"expected_batch_size={sampler.expected_batch_size}, that of the sampler",
        expected_batch_size,
        "pass sampler.expected_batch_size",
    )
