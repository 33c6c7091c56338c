"""Per-sample gradients of one parameter in a form that can tell their norms and weighted sums.

What the rest of the library asks of a per-sample gradient is three questions; a form that answers
them without forming ``[B, *shape]`` numbers joins by implementing `Factored`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.factors.cost import axes_in_memory_order

# What is added in a row, and then in a tree: squares of numbers, and samples.
_BLOCK = 512
_SAMPLES = 32


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for norms, sums and noise: at least float32, whatever the gradient's own."""
    return torch.promote_types(dtype, torch.float32)


def accumulable(values: Tensor) -> Tensor:
    """The same numbers, at least in float32."""
    return values.to(accumulation_dtype(values.dtype))


def row_norm_sq(values: Tensor) -> Tensor:
    """The squared L2 norm of each ``values[i]``, ``[B]``, in the accumulation dtype."""
    in_order = values.permute(0, *axes_in_memory_order(values))
    rows = accumulable(_as_rows(in_order))
    # vector_norm takes one pass and no memory, but adds in a row, which is percents too small for
    # 1e8 numbers: sum() adds the blocks in a tree.
    whole = rows.shape[1] // _BLOCK * _BLOCK
    if not whole:
        return _norm(rows).square()
    norm_sq = _norm(rows[:, :whole].unflatten(1, (-1, _BLOCK))).square().sum(1)
    return norm_sq if whole == rows.shape[1] else norm_sq + _norm(rows[:, whole:]).square()


def _norm(values: Tensor) -> Tensor:
    """Along the last axis."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return norm


def at_least_rounding(norm_sq: Tensor, sizes: Tensor) -> Tensor:
    """A squared norm that is not far below the truth where what it is of has cancelled.

    ``sizes [B]``: the sum of the norms of the terms that a gradient is the sum of. Computed in
    floats from other numbers than the gradient itself, a squared norm is off by some ``u
    sizes**2``, u the unit roundoff: where large terms cancel, it may come out as zero for a
    gradient that is not, and its sample would go unclipped. Here it is at least ``2**12 u
    sizes**2``. An error of ``c u sizes**2`` then makes a norm too small by a share of ``c / 2**13``
    at most, whatever the data is, and c is at most some tens (products are added in blocks). It
    changes nothing unless a norm is less than 2**-6 (in float32) of what it would be in one
    direction: up to 4096 terms in random directions are not touched.
    """
    floor = 2.0**12 * torch.finfo(norm_sq.dtype).eps / 2
    return torch.maximum(norm_sq, floor * sizes.square())


def keep(values: Tensor, weights: Tensor) -> Tensor:
    """``values [B, ...]`` in the accumulation dtype with zeros for each sample of weight zero.

    Zero times NaN is NaN: a dropped sample has to be replaced, not multiplied away. The result may
    be ``values`` itself.
    """
    require_one_each(values, weights)
    values = accumulable(values)
    if drops_nothing(weights):
        return values
    # And with all bits or none: at the speed of a copy, where torch.where takes thrice that.
    word = torch.int32 if values.dtype == torch.float32 else torch.int64
    bits = -(_over(weights, values) != 0).to(word)
    return (values.view(word) & bits).view(values.dtype)


def drops_nothing(weights: Tensor) -> bool:
    """Whether no weight is zero, where a look costs nothing; False where it is not known.

    A GPU would have to be waited for, and while a graph is recorded there are no numbers.
    """
    if weights.device.type != "cpu" or not have_numbers(weights):
        return False
    return bool((weights != 0).all())


def weigh(values: Tensor, weights: Tensor) -> Tensor:
    """``weights[i] * values[i]`` in the accumulation dtype, exactly zero where the weight is."""
    kept = keep(values, weights)
    factors = _over(weights.to(kept.dtype), values)
    return kept * factors if kept is values else kept.mul_(factors)


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

    def sizes(self) -> Tensor:
        """``[B]``: the sum of the norms of the terms that a gradient is the sum of.

        See `at_least_rounding`.
        """
        ...

    def dense(self) -> Tensor:
        """The gradients themselves, ``[B, *shape]``, as they go into norms and sums.

        What is a sum of products is in the accumulation dtype: rounded to less, its norm would not
        be that of what is summed.
        """
        ...

    def take(self, where: slice) -> "Factored":
        """The gradients of the samples in ``where``."""
        ...


@dataclass(frozen=True)
class Dense:
    """Gradients held as they are: ``values`` is ``[B, *shape]``."""

    values: Tensor

    def norm_sq(self) -> Tensor:
        return row_norm_sq(self.values)

    def sizes(self) -> Tensor:
        return self.norm_sq().sqrt()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        require_one_each(self.values, weights)
        axes = axes_in_memory_order(self.values)
        values = self.values.permute(0, *axes)
        if drops_nothing(weights):
            total = _combination(accumulable(_as_rows(values)), weights).view(values.shape[1:])
        else:
            total = weigh(values, weights).sum(0)
        return total.permute([axes.index(axis) for axis in range(1, self.values.dim())])

    def dense(self) -> Tensor:
        return self.values

    def take(self, where: slice) -> "Dense":
        return Dense(self.values[where])


def require_one_each(values: Tensor, weights: Tensor) -> None:
    require(
        weights.shape == values.shape[:1],
        "weighted_sum",
        f"one weight for each of the {values.shape[0]} samples",
        tuple(weights.shape),
        "compute the weights from the norms of these same gradients",
    )


def _combination(rows: Tensor, weights: Tensor) -> Tensor:
    """``sum_i weights[i] * rows[i]`` in one pass: in products of few samples, added in a tree.

    A product adds in a row: over a large batch it would be off by more than 1e-4.
    """
    weights = weights.to(rows.dtype)
    whole = len(rows) // _SAMPLES * _SAMPLES
    few = weights[:whole].view(-1, 1, _SAMPLES), rows[:whole].unflatten(0, (-1, _SAMPLES))
    return torch.bmm(*few).sum((0, 1)) + weights[whole:] @ rows[whole:]


def _as_rows(values: Tensor) -> Tensor:
    size, *shape = values.shape
    return values.reshape(size, math.prod(shape))  # [B, n]


def _over(weights: Tensor, values: Tensor) -> Tensor:
    """``weights [B]`` with axes of length 1 so that it broadcasts over ``values [B, ...]``."""
    return weights.reshape(-1, *(1 for _ in values.shape[1:]))
