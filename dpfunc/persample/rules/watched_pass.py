"""One layer of a recurrent network in one direction over the whole batch, watched at its gates.

Everything here lies step by step, ``[T, R, n]``; the rows R are the N sequences that a sample has,
each of all B samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.factors.outer import sum_of_products
from dpfunc.persample.recurrence.cells import (
    Cell,
    State,
    Weights,
    gru_cell,
    lstm_cell,
    relu_cell,
    tanh_cell,
)
from dpfunc.persample.recurrence.elman import ElmanScan
from dpfunc.persample.recurrence.gru import GRUScan
from dpfunc.persample.recurrence.lstm import LSTMScan
from dpfunc.persample.recurrence.scan import Scan, scan
from dpfunc.persample.rules.linear import in_shape, sum_over_positions
from dpfunc.persample.watching.capture import Factor, Tape


@dataclass(frozen=True)
class WatchedPass:
    """``size``: B. ``probe``: see `tap`."""

    tape: Tape
    cell: Cell
    size: int
    probe: Tensor

    def __call__(
        self, x: Tensor, state: State, weights: Weights, backward: bool
    ) -> tuple[Tensor, State]:
        frozen = weights.map(lambda weight: weight.detach().to(x.dtype))
        steps = _SCANS[self.cell](frozen, backward)
        # As one matrix: of rows that do not lie one after the other, F.linear would make many.
        gates = F.linear(x.flatten(0, 1), frozen.input, _constant(self.cell, frozen))
        gates = in_shape(gates, (*x.shape[:2], gates.shape[1]))
        uses = _Gradients(steps, self.size).uses(weights)
        return scan(steps, self.tape.tap_rows(gates, x, self.probe, *uses), state)


def _lstm(weights: Weights, backward: bool) -> Scan:
    return LSTMScan(weights.hidden, weights.projection, backward)


def _gru(weights: Weights, backward: bool) -> Scan:
    bias = weights.hidden_bias
    return GRUScan(weights.hidden, None if bias is None else bias.chunk(3)[2], backward)


_SCANS: Mapping[Cell, Callable[[Weights, bool], Scan]] = {
    lstm_cell: _lstm,
    gru_cell: _gru,
    tanh_cell: lambda weights, backward: ElmanScan(weights.hidden, False, backward),
    relu_cell: lambda weights, backward: ElmanScan(weights.hidden, True, backward),
}


def _constant(cell: Cell, weights: Weights) -> Tensor | None:
    """What the biases add to the gates; a GRU scales the state's bias of n, at each step."""
    if weights.input_bias is None or weights.hidden_bias is None:
        return None
    if cell is not gru_cell:
        return weights.input_bias + weights.hidden_bias
    r, z, n = weights.hidden_bias.chunk(3)
    return weights.input_bias + torch.cat([r, z, torch.zeros_like(n)])


@dataclass
class _Gradients:
    """The factors of all weights of a pass, from the gradient of its gates."""

    steps: Scan
    size: int
    _known: list[tuple[Tensor, Tensor]] | None = field(default=None, init=False)
    _summed: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def uses(self, weights: Weights) -> list[tuple[Any, Factor]]:
        return [
            (weights.input, self._of_input),
            (weights.hidden, self._of_hidden),
            (weights.input_bias, lambda _, grad: self._of_bias(grad)),
            (weights.hidden_bias, lambda _, grad: self._of_bias(self._products(grad)[0][0])),
            (weights.projection, self._of_projection),
        ]

    def _of_input(self, read: Tensor, grad: Tensor) -> Factored:
        return sum_of_products(self._rows(grad), self._rows(read))

    def _of_hidden(self, _: Tensor, grad: Tensor) -> Factored:
        return sum_of_products(*map(self._rows, self._products(grad)[0]))

    def _of_bias(self, grad: Tensor) -> Factored:
        if self._summed is None or self._summed[0] is not grad:  # both biases may have the same
            self._summed = grad, sum_over_positions(self._rows(grad))
        return Dense(self._summed[1])

    def _of_projection(self, _: Tensor, grad: Tensor) -> Factored:
        return sum_of_products(*map(self._rows, self._products(grad)[1]))

    def _products(self, grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        if self._known is None:
            self._known = self.steps.products(grad)
        return self._known

    def _rows(self, values: Tensor) -> Tensor:
        """``[T, N * B, n]`` as ``[B, T * N, n]``, without a copy."""
        rows: Tensor = values.unflatten(1, (-1, self.size)).permute(2, 0, 1, 3).flatten(1, 2)
        return rows
