"""The equations of the four cells, one step at a time: for single steps, and as the definition.

A cell gets the input's part of its gates, the state's part, and the state before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, ...]
"""``(h,)``, or for an LSTM ``(h, c)``."""

Cell = Callable[[Tensor, Tensor, State], State]


def lstm_cell(x: Tensor, hidden: Tensor, state: State) -> State:
    i, f, g, o = (x + hidden).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_cell(x: Tensor, hidden: Tensor, state: State) -> State:
    (h,) = state
    size = h.shape[-1]
    r, z = (x[..., : 2 * size] + hidden[..., : 2 * size]).sigmoid().chunk(2, -1)
    n = (x[..., 2 * size :] + r * hidden[..., 2 * size :]).tanh()
    return (n + z * (h - n),)


def tanh_cell(x: Tensor, hidden: Tensor, _: State) -> State:
    return ((x + hidden).tanh(),)


def relu_cell(x: Tensor, hidden: Tensor, _: State) -> State:
    return ((x + hidden).relu(),)


class Weights(NamedTuple):
    """Those of one layer in one direction; ``projection`` is that of an LSTM with `proj_size`."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Weights":
        """``fn`` of each weight that there is."""
        return Weights._make(None if weight is None else fn(weight) for weight in self)


def grouped(flat: Sequence[Tensor], has_biases: bool, projects: bool) -> list[Weights]:
    """The weights of every layer and direction, from the flat list that PyTorch hands on."""
    each = 2 + 2 * has_biases + projects
    found = []
    for i in range(0, len(flat), each):
        biases = flat[i + 2 : i + 4] if has_biases else (None, None)
        projection = flat[i + each - 1] if projects else None
        found.append(Weights._make((flat[i], flat[i + 1], *biases, projection)))
    return found


def step_by_step(
    cell: Cell, x: Tensor, state: State, weights: Weights, backward: bool
) -> tuple[Tensor, State]:
    """All steps ``x [T, R, I]`` by the equations, and the last state. Slow: autograd sees each."""
    gates = F.linear(x, weights.input, weights.input_bias).unbind(0)
    outputs = {}
    for t in reversed(range(len(gates))) if backward else range(len(gates)):
        hidden = F.linear(state[0], weights.hidden, weights.hidden_bias)
        h, *rest = cell(gates[t], hidden, state)
        if weights.projection is not None:
            h = F.linear(h, weights.projection)
        state = (h, *rest)
        outputs[t] = h
    return torch.stack([outputs[t] for t in range(len(gates))]), state
