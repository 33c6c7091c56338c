"""`explain`: how the factored engine handles each parameter of a loss, and what that costs."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpfunc.persample.definition.loss import LossFn, Randomness, require_randomness_mode
from dpfunc.persample.factored import record_factors
from dpfunc.persample.factors.combine import Sum
from dpfunc.persample.factors.convolution import Convolution
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.factors.outer import Outer
from dpfunc.persample.factors.scatter import Scatter
from dpfunc.persample.factors.views import Viewed
from dpfunc.types import Tensors


def explain(
    loss_fn: LossFn, params: Tensors, *batch: Any, randomness: Randomness = "error"
) -> "Explanation":
    """What ``factored_grad(loss_fn)(params, *batch)`` does for each parameter; print it.

    Runs the loss and its backward once. A row tells the operations that use the parameter, the form
    in which its per-sample gradients are held, the numbers that a sample holds in that form beside
    those of a gradient, and whether the parameter fell back to its expanded copy because an
    operation has no rule: exact, but of the size of a gradient a sample.

    >>> import torch
    >>> loss = lambda params, x: (torch.nn.functional.linear(x, params["w"]) * params["s"]).sum()
    >>> print(explain(loss, {"w": torch.ones(3, 4), "s": torch.ones(3)}, torch.ones(2, 4)))
    parameter  shape  operations  form   numbers a sample  of a gradient  fell back
    w          3x4    linear      Outer  7                 12
    s          3      mul         Dense  3                 3              yes
    """
    require_randomness_mode(randomness)
    grads, _, record = record_factors(loss_fn, randomness, params, batch)
    rows = []
    for name, param in params.items():
        copied = [operation for operation in record.copied.get(name, []) if operation != "__get__"]
        operations = (*record.tapped.get(name, []), *copied)
        used = _counted(operations) or "none"
        held = _numbers(grads[name])
        row = Row(name, tuple(param.shape), used, type(grads[name]).__name__, held, bool(copied))
        rows.append(row)
    return Explanation(tuple(rows))


def _counted(operations: tuple[str, ...]) -> str:
    """Each operation once, with its count where it is above one."""
    counts = {operation: operations.count(operation) for operation in operations}
    return ", ".join(f"{name} x{n}" if n > 1 else name for name, n in counts.items())


def _numbers(grad: Factored) -> int:
    """How many numbers a sample's gradient takes in this form."""
    match grad:
        case Dense(values):
            return math.prod(values.shape[1:])
        case Outer(left, right):
            return math.prod(left.shape[1:]) + math.prod(right.shape[1:])
        case Scatter(index, rows, _):
            return math.prod(index.shape[1:]) + math.prod(rows.shape[1:])
        case Convolution(inputs, outputs, _, _):
            return math.prod(inputs.shape[1:]) + math.prod(outputs.shape[1:])
        case Viewed(of_view, _):
            return _numbers(of_view)
        case Sum(parts):
            return sum(map(_numbers, parts))
    raise TypeError(f"explain: expected a form of the engine but got {type(grad).__name__}")


class Row(NamedTuple):
    """One parameter. ``numbers``: what a sample holds in this ``form``."""

    parameter: str
    shape: tuple[int, ...]
    operations: str
    form: str
    numbers: int
    fell_back: bool


@dataclass(frozen=True)
class Explanation:
    """The rows, one a parameter; printed as a table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        heads = ("parameter", "shape", "operations", "form", "numbers a sample", "of a gradient")
        cells = [(*heads, "fell back")]
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            numbers = (f"{row.numbers:,}", f"{math.prod(row.shape):,}")
            fell_back = "yes" if row.fell_back else ""
            cells.append((row.parameter, shape, row.operations, row.form, *numbers, fell_back))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join(line.rstrip() for line in lines)
