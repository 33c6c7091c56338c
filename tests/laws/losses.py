"""Losses that tell every output from every other: a fixed weight of its own for each.

A sum of squares cannot see that outputs are permuted, or that their signs are turned.
"""

import torch
from torch import Tensor


def told_apart(outputs: Tensor) -> Tensor:
    """The loss of one sample with these outputs: in float32 at least, a scalar."""
    return each_told_apart(outputs.unsqueeze(0)).squeeze(0)


def each_told_apart(outputs: Tensor) -> Tensor:
    """``[B]``, of the outputs ``[B, ...]`` of a batch: ``sum_k w_k (y_k + y_k**2 / 2 + 1 / 3)``.

    The constant tells of outputs that are too many.
    """
    values = outputs.to(torch.promote_types(outputs.dtype, torch.float32)).flatten(1)
    places = torch.arange(values.shape[1], device=values.device, dtype=torch.float64)
    weights = (1.7 * places + 0.4).cos() + 0.2 * (places % 3) + 0.1  # no two of them are the same
    return ((values + values.square() / 2 + 1 / 3) * weights.to(values.dtype)).sum(1)
