"""Linear maps whose matrix is a parameter: F.linear, addmm, matmul and mm."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.capture import Rule, Tape
from dpfunc.persample.factors import Dense, Factored, accumulable
from dpfunc.persample.outer import Outer


def positions(values: Tensor) -> Tensor:
    """``[B, ..., n]`` as ``[B, T, n]``."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


def _grad_then_input(read: Tensor, grad: Tensor) -> Factored:
    return Outer(positions(grad), positions(read))


def _input_then_grad(read: Tensor, grad: Tensor) -> Factored:
    return Outer(positions(read), positions(grad))


def bias_of_last_axis(read: Tensor, grad: Tensor) -> Factored:
    """A vector added at every position: the sum of the output's gradient over positions."""
    return Dense(accumulable(positions(grad)).sum(1))


def linear(tape: Tape, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """The rule of F.linear, for others that contain one."""
    if tape.name(input) or weight.dim() != 2:
        return NotImplemented
    output = F.linear(input, tape.frozen(weight), tape.frozen(bias))
    return tape.tap(output, input, (weight, _grad_then_input), (bias, bias_of_last_axis))


def _addmm(
    tape: Tape, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Any:
    if tape.name(mat1) or input.dim() != 1 or beta != 1 or alpha != 1:
        return NotImplemented
    output = torch.addmm(tape.frozen(input), mat1, tape.frozen(mat2))
    return tape.tap(output, mat1, (mat2, _input_then_grad), (input, bias_of_last_axis))


def _matmul(tape: Tape, input: Tensor, other: Tensor) -> Any:
    if tape.name(other) and not tape.name(input) and other.dim() == 2:
        output = torch.matmul(input, other.detach())
        return tape.tap(output, input, (other, _input_then_grad))
    if tape.name(input) and not tape.name(other) and input.dim() == 2 and other.dim() == 1:
        output = torch.matmul(input.detach(), other)
        return tape.tap(output, other, (input, _grad_then_input))
    return NotImplemented


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
    torch.mm: Rule(_matmul),
    Tensor.matmul: Rule(_matmul),
    Tensor.mm: Rule(_matmul),
    Tensor.__matmul__: Rule(_matmul),
    Tensor.__rmatmul__: Rule(_rmatmul),
}
