"""Noise mechanisms: a `Summed` (values and their L2 sensitivity) in, a private release out."""

import math
from dataclasses import KW_ONLY, dataclass

import torch

from dpfunc.accounting import Event, dp_sgd
from dpfunc.checks import is_real, require
from dpfunc.random import Key, fold_in, normal
from dpfunc.types import State, Summed, Tensors


@dataclass(frozen=True)
class GaussianNoise:
    """Add ``Normal(0, (noise_multiplier * bound)**2)`` to each coordinate of a `Summed`.

    Guarantee: one release is the Gaussian mechanism with noise multiplier ``noise_multiplier``
    (standard deviation over L2 sensitivity): ``Normal(0, sigma**2)`` against ``Normal(1,
    sigma**2)`` dominates it under adding or removing one sample (Balle and Wang 2018,
    arXiv:1805.06530; Dong, Roth and Su 2019, arXiv:1905.02383, section 2.3). It holds for real
    numbers; the low bits of a floating-point sum can betray its value (Mironov 2012): see
    docs/sharp_edges.md.

    The noise is a pure function of (key, step, parameter name): no step repeats another's noise,
    the step is the only state, and a run resumed from it goes on with fresh noise. One key is for
    one run. A step taken twice with one key, on other data, parameters, hyperparameters or dropout
    masks, has the same noise both times, and the difference of the releases has none: make a new
    key for every run and every branch of a run.

    | case | result |
    |---|---|
    | ``noise_multiplier == 0`` | the sum unchanged: not private, epsilon is infinite |
    | infinite ``bound`` and noise | ValueError: no noise protects an unclipped sum |
    | not a `Summed` | TypeError |

    >>> import dpfunc as dp
    >>> GaussianNoise(1.1, key=dp.key()).init({})
    {'step': 0}
    """

    noise_multiplier: float
    _: KW_ONLY
    key: Key

    def __post_init__(self) -> None:
        require(
            is_real(self.noise_multiplier) and 0 <= self.noise_multiplier < math.inf,
            "GaussianNoise",
            "a finite noise_multiplier >= 0",
            self.noise_multiplier,
            "find one with dpfunc.accounting.noise_multiplier(target_epsilon=...)",
        )
        require(
            isinstance(self.key, Key),
            "GaussianNoise",
            "key=dpfunc.key()",
            type(self.key).__name__,
            "there is no default: make a key with dpfunc.key() and keep it secret",
            error=TypeError,
        )

    def init(self, params: Tensors) -> State:
        return {"step": 0}

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        require(
            isinstance(summed, Summed),
            "GaussianNoise",
            "a Summed, whose bound sets the scale of the noise",
            type(summed).__name__,
            "pass the result of dpfunc.weighted_sum(grads, weights)",
            error=TypeError,
        )
        step = state["step"]
        scale = self._scale(summed.bound)
        released: Tensors = {}
        for name, value in summed.values.items():
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            if scale > 0:
                key = fold_in(self.key, "noise", step, name)
                z = normal(key, value.shape, dtype=value.dtype, device=value.device)
                value = z.mul_(scale).add_(value)
            released[name] = value
        return released, {"step": step + 1}

    def event(self, state: State, *, sample_rate: float) -> Event:
        return dp_sgd(
            noise_multiplier=self.noise_multiplier, sample_rate=sample_rate, steps=state["step"]
        )

    def _scale(self, bound: float) -> float:
        if self.noise_multiplier == 0:
            return 0.0
        require(
            0 <= bound < math.inf,
            "GaussianNoise",
            "a sum with a finite L2 bound",
            bound,
            "clip with a finite max_norm, or set noise_multiplier=0 to train without privacy",
        )
        return self.noise_multiplier * bound
