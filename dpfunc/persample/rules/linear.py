"""Linear maps whose matrix is a parameter: F.linear, addmm, matmul and mm."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.factors.forms import Dense, Factored, accumulable
from dpfunc.persample.factors.outer import sum_of_products
from dpfunc.persample.factors.precision import autocast_dtype
from dpfunc.persample.watching.capture import Factor, Rule, Tape


def positions(values: Tensor) -> Tensor:
    """``[B, ..., n]`` as ``[B, T, n]``."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


def _grad_then_input(read: Tensor, grad: Tensor) -> Factored:
    return sum_of_products(positions(grad), positions(read))


def input_then_grad(read: Tensor, grad: Tensor) -> Factored:
    return sum_of_products(positions(read), positions(grad))


def bias_of_last_axis(read: Tensor, grad: Tensor) -> Factored:
    """A vector added at every position: the sum of the output's gradient over positions."""
    return Dense(sum_over_positions(grad))


def sum_over_positions(grad: Tensor) -> Tensor:
    """``[B, ..., n]`` to ``[B, n]``."""
    rows = accumulable(positions(grad))
    return rows.squeeze(1) if rows.shape[1] == 1 else rows.sum(1)


@dataclass(frozen=True)
class _Affine:
    """``read @ matrix + bias`` along the last axis, ``matrix [i, o]``."""

    matrix: Tensor
    bias: Tensor | None

    def run(self, read: Tensor) -> Tensor:
        flat = read.reshape(-1, read.shape[-1])
        if self.bias is None:
            output = flat @ self.matrix
        else:
            output = torch.addmm(self.bias, flat, self.matrix)
        return in_shape(output, (*read.shape[:-1], self.matrix.shape[1]))

    def pull(self, read: Tensor, grad: Tensor) -> Tensor:
        flat = grad.reshape(-1, grad.shape[-1])
        return (flat @ self.matrix.T).view(read.shape)


def in_shape(fresh: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``fresh`` in another shape. No view for autograd, which copies the whole gradient of a view
    that is changed in place."""
    whole: Tensor = torch.ops.aten._unsafe_view(fresh, shape)
    return whole


def affine(
    tape: Tape, input: Tensor, matrix: Tensor, bias: Tensor | None, *uses: tuple[Any, Factor]
) -> Tensor | None:
    """``input @ matrix + bias``, tapped; None where types differ, as they do under autocast."""
    dtypes = {value.dtype for value in (input, matrix, bias) if value is not None}
    if len(dtypes) > 1 or autocast_dtype(input.device) is not None:
        return None
    return tape.run(_Affine(matrix, bias), input, *uses)


def linear(tape: Tape, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """The rule of F.linear, for others that contain one."""
    if tape.name(input) or weight.dim() != 2 or not tape.weights_of_all(weight, bias):
        return NotImplemented
    if bias is not None and bias.shape != weight.shape[:1]:  # one number for all outputs
        return NotImplemented
    frozen, frozen_bias = tape.frozen(weight), tape.frozen(bias)
    uses = ((weight, _grad_then_input), (bias, bias_of_last_axis))
    output = affine(tape, input, frozen.T, frozen_bias, *uses)
    if output is None:
        return tape.tap(F.linear(input, frozen, frozen_bias), input, *uses)
    return output


def _addmm(
    tape: Tape, input: Tensor, mat1: Tensor, mat2: Tensor, *more: Any, **options: Any
) -> Any:
    """``more``, ``options``: a dtype, somewhere to write to, factors."""
    if more or any(value != 1 for value in options.values()):
        return NotImplemented
    if tape.name(mat1) or input.shape != mat2.shape[1:]:
        return NotImplemented
    if not tape.weights_of_all(input, mat2):
        return NotImplemented
    bias, matrix = tape.frozen(input), tape.frozen(mat2)
    uses = ((mat2, input_then_grad), (input, bias_of_last_axis))
    output = affine(tape, mat1, matrix, bias, *uses)
    return tape.tap(torch.addmm(bias, mat1, matrix), mat1, *uses) if output is None else output


def _matmul(tape: Tape, input: Tensor, other: Tensor) -> Any:
    if tape.name(other) and not tape.name(input) and other.dim() == 2:
        use = (other, input_then_grad)
        output = affine(tape, input, other.detach(), None, use)
        return tape.tap(input @ other.detach(), input, use) if output is None else output
    if tape.name(input) and not tape.name(other) and input.dim() == 2 and other.dim() == 1:
        output = torch.matmul(input.detach(), other)
        return tape.tap(output, other, (input, _grad_then_input))
    return NotImplemented


def _mm(tape: Tape, input: Tensor, mat2: Tensor, *more: Any, **options: Any) -> Any:
    return NotImplemented if more or options else _matmul(tape, input, mat2)


def _rmatmul(tape: Tape, other: Tensor, input: Tensor) -> Any:
    return _matmul(tape, input, other)


def _bilinear(
    tape: Tape, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Any:
    return tape.with_copies(_bilinear_by_einsum, input1, input2, weight, bias)


def _bilinear_by_einsum(
    input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    # vmap has no rule for F.bilinear, but one for einsum.
    output = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return output if bias is None else output + bias


LINEAR_RULES = {
    F.linear: Rule(linear),
    F.bilinear: Rule(_bilinear),
    torch.addmm: Rule(_addmm),
    Tensor.addmm: Rule(_addmm),
    torch.matmul: Rule(_matmul),
    torch.mm: Rule(_mm),
    Tensor.matmul: Rule(_matmul),
    Tensor.mm: Rule(_mm),
    Tensor.__rmatmul__: Rule(_rmatmul),
}
