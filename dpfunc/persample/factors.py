"""Per-sample gradients of one parameter in a form that can tell their norms and weighted sums.

What the rest of the library asks of a per-sample gradient is three questions; a form that answers
them without forming ``[B, *shape]`` numbers joins by implementing `Factored`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for norms, sums and noise: at least float32, whatever the gradient's own."""
    return torch.promote_types(dtype, torch.float32)


class Factored(Protocol):
    """The gradients of B samples for one parameter."""

    def norm_sq(self) -> Tensor:
        """Squared L2 norm of each sample's gradient, ``[B]``, in the accumulation dtype."""
        ...

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """``sum_i weights[i] * gradient[i]``, of the parameter's shape, in the accumulation dtype.

        A sample of weight zero adds exactly zero, even where its gradient is NaN or infinite.
        """
        ...

    def dense(self) -> Tensor:
        """The gradients themselves, ``[B, *shape]``."""
        ...


@dataclass(frozen=True)
class Dense:
    """Gradients held as they are: ``values`` is ``[B, *shape]``."""

    values: Tensor

    def norm_sq(self) -> Tensor:
        dtype = accumulation_dtype(self.values.dtype)
        norm: Tensor = torch.linalg.vector_norm(self._rows(), dim=1, dtype=dtype)
        return norm.square()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        dtype = accumulation_dtype(self.values.dtype)
        weights = weights.to(dtype)
        # 0 * NaN is NaN: a dropped sample has to be replaced, not multiplied away.
        rows = torch.where(weights.unsqueeze(1) != 0, self._rows().to(dtype), 0.0)  # [B, n]
        total: Tensor = weights @ rows
        return total.reshape(self.values.shape[1:])

    def dense(self) -> Tensor:
        return self.values

    def _rows(self) -> Tensor:
        size, *shape = self.values.shape
        return self.values.reshape(size, math.prod(shape))  # [B, n]
