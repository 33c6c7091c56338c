"""Weights of a clip rule, made those of a step: padding left out, the sum divided."""

import torch
from torch import Tensor

from dpfunc.types import Weights

# Norms are at least float32: entries below 1e-19 square to zero and vanish from the norm. A bound
# far above what can vanish keeps the guarantee exact; real gradients never come near.
SMALLEST_NORM = 1e-12


def masked(weights: Weights, mask: Tensor) -> Weights:
    """The same weights, zero where ``mask`` is False: such a sample is not part of the batch."""
    values = {name: torch.where(mask, value, 0.0) for name, value in weights.values.items()}
    return Weights(values, weights.bound)


def divided(weights: Weights, by: float) -> Weights:
    """Weights of a sum that comes out divided, with its bound: B numbers instead of P."""
    values = {name: value / by for name, value in weights.values.items()}
    return Weights(values, weights.bound / by)
