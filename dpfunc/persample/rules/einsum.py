"""torch.einsum of a parameter with data, where it is a linear map in other words."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.views import put_back
from dpfunc.persample.rules.linear import affine, input_then_grad
from dpfunc.persample.watching.capture import Rule, Tape


def _einsum(tape: Tape, equation: Any, *operands: Any) -> Any:
    """``einsum`` of a parameter with one other operand, where it is a linear map."""
    if not isinstance(equation, str) or len(operands) != 2:
        return NotImplemented
    terms = _Terms.of(equation, flipped=tape.name(operands[0]) is not None)
    data, param = operands[::-1] if tape.name(operands[0]) else operands
    if terms is None or tape.name(data) or not tape.name(param):
        return NotImplemented
    inner, outer = terms.inner, terms.outer

    def as_matrix(values: Tensor) -> Tensor:
        """``[i, o]``: the contracted indices of the parameter, then the others."""
        order = [terms.param.index(name) for name in inner + outer]
        return values.permute(order).flatten(0, len(inner) - 1).flatten(1)

    def of_param(read: Tensor, grad: Tensor) -> Factored:
        return put_back(input_then_grad(read, grad), as_matrix, param)

    turned = data.permute([terms.data.index(name) for name in terms.kept + inner])
    output = affine(tape, turned.flatten(len(terms.kept)), as_matrix(param.detach()), None,
                    (param, of_param))  # fmt: skip
    if output is None:
        return NotImplemented
    lengths = [param.shape[terms.param.index(name)] for name in outer]
    whole = output.unflatten(-1, lengths)
    return whole.permute([(terms.kept + outer).index(name) for name in terms.output])


class _Terms(NamedTuple):
    """The indices of an einsum of data with a parameter."""

    data: str
    param: str
    output: str

    @staticmethod
    def of(equation: str, *, flipped: bool) -> "_Terms | None":
        """None where the parameter does not act as a matrix: an index of three, or of one."""
        operands, arrow, output = equation.replace(" ", "").partition("->")
        data, _, param = operands.partition(",")
        if flipped:
            data, param = param, data
        terms = _Terms(data, param, output)
        named = arrow and (data + param + output).isalpha()
        once = all(len(set(part)) == len(part) for part in terms)
        if not named or not once or not terms.inner or not terms.outer:
            return None
        shared = set(data) & set(param) & set(output)
        lost = (set(data) - set(param) - set(output)) | (set(param) - set(data) - set(output))
        return None if shared or lost or set(output) - set(data) - set(param) else terms

    @property
    def inner(self) -> str:
        return "".join(name for name in self.param if name in self.data)

    @property
    def outer(self) -> str:
        return "".join(name for name in self.param if name not in self.data)

    @property
    def kept(self) -> str:
        return "".join(name for name in self.data if name not in self.param)


EINSUM_RULES = {torch.einsum: Rule(_einsum)}
