"""A clip rule that follows a quantile of the norms, and pays for what it learns."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.clipping.weights import SMALLEST_NORM
from dpfunc.persample.factors.reduce import global_norm
from dpfunc.random.keys import Key, fold_in, require_key
from dpfunc.random.rounded import rounded_normal
from dpfunc.types import State, Tensors, Weights

_FARTHEST = 1e6  # how far the norm may go from its start, either way


@dataclass(frozen=True)
class AdaptiveClip:
    """Clip to a norm that a share ``quantile`` of the samples is below, found on the way.

    Gradients come out in units of the norm: the weight is ``min(1 / C, 1 / norm)`` and the bound 1,
    so that neither noise nor learning rate moves with C. After each step

        share = 1/2 + (sum_i (b_i - 1/2) + Normal(0, count_noise**2)) / expected_batch_size
        C <- C exp(-rate (share - quantile)),      b_i = 1 where norm_i <= C

    over the samples that count; one whose norm is not finite counts as above. Andrew et al. 2021,
    arXiv:1905.03871, with their ``rate`` and, as ``count_noise``, a 20th of the batch.

    Guarantee: L2 sensitivity 1 of the sum in real numbers, given the norms before. One sample moves
    ``sum_i (2 b_i - 1)`` by at most 1 when it comes, goes or is zeroed out (and by 2 when it is
    replaced), and the noise on it is ``round(Normal(0, (2 count_noise)**2))``, exactly: the
    Gaussian mechanism of noise multiplier ``query_multiplier = 2 count_noise``, on the samples
    that the gradient is of. Both together are one Gaussian release of z, ``1 / z**2 =
    1 / z_gradient**2 + 1 / query_multiplier**2``, which is what `PrivateGrad.event` counts.
    `noise_left` says what z_gradient is for a z. The share is in the state as ``below``: private,
    so a monitor may publish it.

    ``key``: that of the noise, of the run. The count is a function of it and of the step.

    | case | result |
    |---|---|
    | no sample | noise alone moves C |
    | C a million times its start, or a millionth | it stays there |
    | another key than the noise's | ValueError by `PrivateGrad` |

    >>> import dpfunc as dp
    >>> clip = AdaptiveClip(1.0, count_noise=10.0, expected_batch_size=200, key=dp.key())
    >>> clip.init()["norm"], round(clip.noise_left(1.0), 5)
    (1.0, 1.00125)
    """

    start: float
    _: KW_ONLY
    count_noise: float
    expected_batch_size: float
    key: Key
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        for name, low, high in (
            ("start", SMALLEST_NORM * _FARTHEST, 1e12),
            ("count_noise", 1e-3, 1e12),
            ("expected_batch_size", 1e-9, 1e12),
            ("rate", 1e-9, 10.0),
        ):
            value = getattr(self, name)
            require(
                is_real(value) and low <= value <= high,
                "AdaptiveClip",
                f"{name} from {low:g} to {high:g}",
                value,
                "use a start near the norms of the gradients, count_noise=expected_batch_size/20",
            )
        require(
            is_real(self.quantile) and 0 < self.quantile < 1,
            "AdaptiveClip",
            "0 < quantile < 1",
            self.quantile,
            "use 0.5, the median",
        )
        require_key("AdaptiveClip", self.key)

    @property
    def query_multiplier(self) -> float:
        """Noise over sensitivity of the count: what `PrivateGrad` composes with the gradient."""
        return 2 * self.count_noise

    def noise_left(self, noise_multiplier: float) -> float:
        """What is left for the gradient's noise where both together are to be this multiplier.

        ValueError where the count alone costs more.
        """
        left = noise_multiplier**-2 - self.query_multiplier**-2
        require(
            left > 0,
            "AdaptiveClip",
            f"a count_noise above {noise_multiplier / 2:g}, half the noise multiplier",
            self.count_noise,
            "use expected_batch_size / 20",
        )
        return float(left**-0.5) * (1 + 2.0**-48)

    def init(self) -> State:
        state: State = {"step": 0, "norm": float(self.start), "branches": [], "below": None}
        return {**state, "query_multiplier": self.query_multiplier}

    def weights(self, norms: Tensors, state: State) -> Weights:
        norm = global_norm(norms)
        weight = torch.clamp(1 / norm, max=1 / state["norm"])
        return Weights(dict.fromkeys(norms, torch.where(norm.isfinite(), weight, 0.0)), 1.0)

    def full_weight(self, state: State) -> float:
        """The weight of a sample that is not clipped."""
        return float(1 / state["norm"])

    def update(self, norms: Tensors, mask: Tensor, state: State) -> State:
        """The norm of the next step: the only place that draws the noise of the count."""
        below = global_norm(norms) <= state["norm"]  # False for NaN
        count = 2 * int((below & mask).sum()) - int(mask.sum())
        key = fold_in(self.key, "clip count", *state["branches"], state["step"])
        noise = int(rounded_normal(key, (1,), scale=self.query_multiplier))
        share = 0.5 + (count + noise) / (2 * self.expected_batch_size)
        moved = math.log(state["norm"] / self.start) - self.rate * (share - self.quantile)
        limit = math.log(_FARTHEST)
        norm = self.start * math.exp(min(max(moved, -limit), limit))
        return {**state, "step": state["step"] + 1, "norm": norm, "below": share}

    def resume(self, state: State, *, key: Key) -> State:
        """The same with the run's own key; a branch with fresh noise with another."""
        require_key("AdaptiveClip.resume", key)
        if key == self.key:
            return state
        branch = fold_in(key, "clip branch").secret_bytes.hex()
        return {**state, "branches": [*state["branches"], f"{branch} {state['step']}"]}
