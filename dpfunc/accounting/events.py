"""DP-SGD as an event, and any composition of subsampled Gaussians as a list of phases."""

import math
from typing import NamedTuple

from dpfunc.accounting.algebra import Compose, Event, Repeat
from dpfunc.accounting.mechanisms import Gaussian
from dpfunc.accounting.schemes import Poisson

_MOST_NOISE = 1e100  # more is accounted as this much, an upper bound: its square must not overflow


def dp_sgd(*, noise_multiplier: float, sample_rate: float, steps: int) -> Repeat:
    """DP-SGD: ``steps`` Gaussian releases, each on a fresh Poisson sample at ``sample_rate``.

    ``noise_multiplier`` is the standard deviation of the noise over the L2 clipping norm.

    >>> dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=100)
    Poisson(0.01, Gaussian(1.0)) * 100
    """
    return Repeat(Poisson(sample_rate, Gaussian(noise_multiplier)), steps)


class Phase(NamedTuple):
    """``times`` Poisson-subsampled Gaussian releases with the same parameters."""

    noise_multiplier: float
    sample_rate: float
    times: int


def phases(event: Event) -> list[Phase]:
    """The event flattened; equal phases joined, those that release nothing left out."""
    counts: dict[tuple[float, float], int] = {}
    for sigma, rate, times in _flatten(event, 1):
        if times > 0 and rate > 0 and sigma < math.inf:
            sigma = min(sigma, _MOST_NOISE)
            counts[sigma, rate] = counts.get((sigma, rate), 0) + times
    return [Phase(sigma, rate, times) for (sigma, rate), times in counts.items()]


def _flatten(event: Event, times: int) -> list[Phase]:
    match event:
        case Gaussian(sigma):
            return [Phase(sigma, 1.0, times)]
        case Poisson(rate, Gaussian(sigma)):
            return [Phase(sigma, rate, times)]
        case Repeat(inner, repeats):
            return _flatten(inner, times * repeats)
        case Compose(parts):
            return [phase for part in parts for phase in _flatten(part, times)]
    raise TypeError(
        f"accounting: expected an event but got {type(event).__name__}; "
        "build one with dpfunc.accounting.dp_sgd(...)."
    )
