"""Runs that release noise and nothing else: diverged, or drowned.

A sample whose gradient is not finite is dropped. Once a model has diverged that is every sample,
and the run goes on at full price. Whether samples were dropped is private, and so is a log of it.
The released gradients may be looked at, and they tell as much.
"""

import math
import warnings

import torch
from torch import Tensor

from dpfunc.clipping.rules import AutoClip, Clip
from dpfunc.noise.gaussian import GaussianNoise
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import Tensors

_STEPS = 32
_VISIBLE = 0.25  # a mean gradient of this share of the clipping norm has to stand out
_FAR, _NEAR = 8.0, 4.0  # standard deviations: what stands out, and what is noise still


class NoiseAlone:
    """Says once, as a warning, that the gradients of `_STEPS` steps in a row are those of noise.

    It reads what was released, so that the warning is post-processing. The squares of P released
    coordinates, in units of the variance of the noise, sum to P with a variance of 2 P where there
    is nothing but noise. Runs in which a usual mean gradient would not stand out are not judged.
    """

    def __init__(self, private: PrivateGrad) -> None:
        self._max_norm, self._deviation = _scales(private)
        self._squares: list[Tensor] = []
        self._judges: bool | None = None

    def saw(self, grads: Tensors) -> None:
        """``grads`` were released."""
        if self._judges is None:
            self._judges = self._would_see(grads)
        if not self._judges:
            return
        each = [torch.linalg.vector_norm(grad.float()) for grad in grads.values()]
        self._squares.append(torch.stack(each).square().sum())
        if len(self._squares) < _STEPS:  # a device is not waited for at every step
            return
        count = _numbers(grads)
        total = float(torch.stack(self._squares).double().sum()) / self._deviation**2
        self._squares = []
        if total - count <= _NEAR * math.sqrt(2 * count):
            self._judges = False  # once is enough
            warnings.warn(
                f"PrivacyEngine: the gradients of the last {_STEPS} steps cannot be told from "
                "noise alone. Either every sample was dropped, because the model has diverged and "
                "no gradient is finite, or the gradients are small beside the noise. In private, "
                "engine.dropped_share() tells which; a diverged model needs a lower learning rate "
                "and a new run.",
                stacklevel=5,
            )

    def _would_see(self, grads: Tensors) -> bool:
        """Whether a usual mean gradient stands out. Rows of a process are not judged."""
        if self._deviation == 0 or any(type(grad) is not Tensor for grad in grads.values()):
            return False
        seen = _STEPS * (_VISIBLE * self._max_norm / self._deviation) ** 2
        return seen >= _FAR * math.sqrt(2 * _numbers(grads)) > 0


def _numbers(grads: Tensors) -> int:
    return _STEPS * sum(grad.numel() for grad in grads.values())


def _scales(private: PrivateGrad) -> tuple[float, float]:
    """The clipping norm and the deviation of a released coordinate; 0 where it is not known."""
    noise, clip = private.noise, private.clip
    if not isinstance(noise, GaussianNoise) or not isinstance(clip, Clip | AutoClip):
        return math.nan, 0.0
    if not math.isfinite(clip.max_norm):
        return math.nan, 0.0
    return clip.max_norm, noise.noise_multiplier * clip.max_norm / private.expected_batch_size
