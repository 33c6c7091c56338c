"""Weights of a clip rule, made those of a step: padding left out, the sum divided."""

from collections.abc import Callable

import torch
from torch import Tensor

from dpfunc.types import Tensors, Weights

# Norms are at least float32: entries below 1e-19 square to zero and vanish from the norm. A bound
# far above what can vanish keeps the guarantee exact; real gradients never come near.
SMALLEST_NORM = 1e-12


def masked(weights: Weights, mask: Tensor) -> Weights:
    """The same weights, zero where ``mask`` is False: such a sample is not part of the batch."""
    values = _each(weights.values, lambda value: torch.where(mask, value, 0.0))
    return Weights(values, weights.bound)


def divided(weights: Weights, by: float) -> Weights:
    """Weights of a sum that comes out divided, with its bound: B numbers instead of P."""
    values = _each(weights.values, lambda value: value / by)
    return Weights(values, weights.bound / by)


def scaled(norms: Tensors, scale: float) -> Tensors:
    """The norms of gradients that are multiplied by ``scale``."""
    return norms if scale == 1.0 else {name: scale * norm for name, norm in norms.items()}


def of_scaled(weights: Weights, scale: float) -> Weights:
    """Weights for gradients that come before they are multiplied by ``scale``."""
    if scale == 1.0:
        return weights
    return Weights(_each(weights.values, lambda value: scale * value), weights.bound)


def _each(values: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """``change`` of each, called once for what several parameters share, as a flat rule's do."""
    changed: dict[int, Tensor] = {}
    for value in values.values():
        if id(value) not in changed:
            changed[id(value)] = change(value)
    return {name: changed[id(value)] for name, value in values.items()}
