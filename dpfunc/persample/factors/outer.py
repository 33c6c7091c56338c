"""Per-sample gradients of linear maps: sums of outer products over positions, never formed.

For ``y = W x`` at T positions of a sample, the gradient of W is ``sum_t g_t x_t^T``. Its squared
norm is ``sum_{t,s} <g_t, g_s> <x_t, x_s>``, the Gram form (Li, Tramer, Liang and Hashimoto 2022,
arXiv:2110.05679, section 4), and the weighted sum over the batch is one matrix product.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import slices
from dpfunc.persample.factors.cost import form_in_slices, prefers_gram, samples_of_a_product
from dpfunc.persample.factors.forms import (
    Dense,
    Factored,
    accumulable,
    at_least_rounding,
    keep,
    row_norm_sq,
    weigh,
)


def sum_of_products(left: Tensor, right: Tensor) -> Factored:
    """``sum_t left[t, l] right[t, r]`` of ``[B, T, l]`` and ``[B, T, r]``, as it is worth.

    A gradient no larger than its factors is formed at once: they are let go, and its weighted sum
    is one pass over it instead of a second product.
    """
    _, positions, rows = left.shape
    if prefers_gram(positions, rows, right.shape[2]):
        return Outer(left, right)
    left, right = accumulable(left), accumulable(right)
    if rows > right.shape[2]:  # a wide result takes three quarters of the time of a high one
        return Dense((right.mT @ left).mT)
    return Dense(left.mT @ right)


def _lengths(values: Tensor) -> Tensor:
    """The norm at each position, ``[B, T]``."""
    return row_norm_sq(values.flatten(0, 1)).sqrt().view(values.shape[:2])


@dataclass(frozen=True)
class Outer:
    """``grad[l, r] = sum_t left[t, l] right[t, r]``: ``left [B, T, l]``, ``right [B, T, r]``."""

    left: Tensor
    right: Tensor

    def norm_sq(self) -> Tensor:
        norm_sq, sizes = self.norm_sq_and_sizes()
        one_term = self.left.shape[1] == 1  # which nothing can cancel
        return norm_sq if one_term else at_least_rounding(norm_sq, sizes)

    def sizes(self) -> Tensor:
        """See `at_least_rounding`."""
        return (_lengths(self.left) * _lengths(self.right)).sum(1)

    def norm_sq_and_sizes(self) -> tuple[Tensor, Tensor]:
        """The squared norm as it comes out, be it of terms that cancel, and `sizes`."""
        _, positions, rows = self.left.shape
        columns = self.right.shape[2]
        if positions == 1:
            norm_sq = row_norm_sq(self.left) * row_norm_sq(self.right)
            return norm_sq, norm_sq.sqrt()
        if prefers_gram(positions, rows, columns):
            both = form_in_slices(self._by_gram, self.left, positions * positions)
            return both[:, 0], both[:, 1]
        return form_in_slices(self._formed_norm_sq, self.left, rows * columns), self.sizes()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """One product over the batch, in slices: both sides are copied to keep NaN out of it."""
        size, positions, rows = self.left.shape
        columns = self.right.shape[2]
        at_once = samples_of_a_product(positions, rows + columns, self.left.device)

        def clean(where: slice) -> tuple[Tensor, Tensor]:
            left, right, part = self.left[where], self.right[where], weights[where]
            # The scaled side is passed over twice: let it be the smaller one.
            if rows <= columns:
                left, right = weigh(left, part), keep(right, part)
            else:
                left, right = keep(left, part), weigh(right, part)
            return left.flatten(0, 1).T, right.flatten(0, 1)

        first, *others = slices(size, at_once)
        total = torch.matmul(*clean(first))
        for where in others:
            total.addmm_(*clean(where))
        return total

    def dense(self) -> Tensor:
        return accumulable(self.left).mT @ accumulable(self.right)

    def take(self, where: slice) -> "Outer":
        return Outer(self.left[where], self.right[where])

    def _by_gram(self, where: slice) -> Tensor:
        """``[b, 2]``: the two of `norm_sq_and_sizes`. Squared lengths are on the diagonal."""
        left, right = accumulable(self.left[where]), accumulable(self.right[where])
        gram = (left @ left.mT).mul_(right @ right.mT)  # [b, T, T]
        sizes = gram.diagonal(dim1=1, dim2=2).sqrt().sum(1)
        norm_sq = gram.sum((1, 2)).clamp_(min=0.0)  # rounding may leave a zero slightly negative
        return torch.stack([norm_sq, sizes], 1)

    def _formed_norm_sq(self, where: slice) -> Tensor:
        left, right = accumulable(self.left[where]), accumulable(self.right[where])
        return row_norm_sq(left.mT @ right)
