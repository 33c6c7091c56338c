"""Recurrent layers and cells: their passes over time run over the whole batch.

With ``gates_t = W_ih x_t + b_ih + (W_hh h_{t-1} + b_hh)``, one tap on the input's part of all gates
sees ``d loss / d gates_t`` for every t, which serves all parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.factors.precision import autocast_dtype, without_autocast
from dpfunc.persample.recurrence.cells import (
    Cell,
    State,
    Weights,
    grouped,
    gru_cell,
    lstm_cell,
    relu_cell,
    step_by_step,
    tanh_cell,
)
from dpfunc.persample.rules.linear import linear
from dpfunc.persample.rules.packed import PACKING_RULES, require_one_sample, run_packed
from dpfunc.persample.rules.watched_pass import WatchedPass
from dpfunc.persample.watching.capture import Rule, Tape, require_randomness

_Direction = Callable[[Tensor, State, Weights, bool], tuple[Tensor, State]]


@dataclass(frozen=True)
class _Network:
    """A stack of layers in one or two directions; ``weights`` by layer, then by direction."""

    tape: Tape
    cell: Cell
    weights: Sequence[Weights]
    directions: int
    dropout: float

    def run(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``x [T, N, I]`` and states ``[L, N, H]`` of one sample, or with B samples in an axis."""
        require(len(x) > 0, "recurrent layer", "at least one step", "none", "leave it out")
        if self.tape.samples.mapped and any(map(_differs, _tensors(self.weights))):
            return self._by_equations(x, states)
        return self.tape.on_whole_batch(self._on_whole_batch, x, *states)

    def _by_equations(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """With weights that every sample has its own of: parameters are then copied, too."""
        copied = [weights.map(self.tape.copies) for weights in self.weights]
        direction = partial(step_by_step, self.cell)
        return self._layers(direction, copied, x, states)

    def _on_whole_batch(
        self, randomness: str, probe: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """``x [B, T, N, I]`` and states ``[B, L, N, H]``; the results likewise."""
        require_randomness(randomness, self.dropout, "recurrent")
        size, device = len(inputs[0]), inputs[0].device
        dtype = autocast_dtype(device)
        if dtype is None:
            _require_one_dtype((*inputs, *_tensors(self.weights)))
        else:
            inputs = tuple(values.to(dtype) for values in inputs)
        # Steps in front; the rows of a sequence are those of its samples, one after the other.
        x, *states = (v.permute(1, 2, 0, 3).flatten(1, 2) for v in inputs)
        direction = WatchedPass(self.tape, self.cell, size, probe)
        with without_autocast(device):
            results = self._layers(direction, self.weights, x, states)
        return tuple(v.unflatten(1, (-1, size)).permute(2, 0, 1, 3) for v in results)

    def _layers(
        self,
        direction: _Direction,
        weights: Sequence[Weights],
        x: Tensor,
        states: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """The outputs of the last layer ``[T, R, H]``, the last states ``[L, R, H]``."""
        last: list[State] = []
        while len(last) < len(weights):
            if last and self.dropout > 0:
                x = F.dropout(x, self.dropout)
            outputs = []
            for backward in (False, True)[: self.directions]:
                place = len(last)
                first = tuple(state[place] for state in states)
                output, end = direction(x, first, weights[place], backward)
                outputs.append(output)
                last.append(end)
            x = outputs[0] if self.directions == 1 else torch.cat(outputs, -1)
        return x, *(torch.stack(ends) for ends in zip(*last, strict=True))


def _differs(weight: Tensor) -> bool:
    """Whether vmap has another tensor for every sample, as it does of what is made of copies."""
    return torch.func.debug_unwrap(weight, recurse=False) is not weight


def _require_one_dtype(tensors: Sequence[Tensor]) -> None:
    found = sorted({str(values.dtype) for values in tensors})
    require(
        len(found) == 1,
        "recurrent layer",
        "its input, states and weights in one dtype",
        found,
        "cast them, or use autocast",
    )


def _tensors(weights: Sequence[Weights]) -> list[Tensor]:
    return [weight for each in weights for weight in each if weight is not None]


def _recurrent(cell: Cell, tape: Tape, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """``(x, state, weights, has_biases, ...)``, or packed ``(x, batch_sizes, state, ...)``."""
    if kwargs:
        return NotImplemented  # the layers of torch.nn pass none
    batch_sizes = args[0] if isinstance(args[2], tuple | list) else None
    state, weights, *options = args if batch_sizes is None else args[1:]
    has_biases, _, dropout, train, bidirectional, *batch_first = options
    x, state = tape.copies((x, state))
    states = state if isinstance(state, tuple | list) else (state,)
    projects = states[0].shape[-1] != states[-1].shape[-1]
    each, directions = grouped(weights, has_biases, projects), 2 if bidirectional else 1
    network = _Network(tape, cell, each, directions, dropout if train else 0.0)
    if batch_sizes is not None:
        require_one_sample(tape)
        return run_packed(network.run, x, batch_sizes, states)
    if not any(batch_first):
        return network.run(x, states)
    output, *last = network.run(x.transpose(0, 1), states)
    return output.transpose(0, 1), *last


def _recurrent_cell(
    cell: Cell,
    tape: Tape,
    input: Tensor,
    hx: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Any:
    x, given = tape.copies((input, hx))
    state = tuple(given) if isinstance(given, tuple | list) else (given,)
    gates, hidden = linear(tape, x, w_ih, b_ih), linear(tape, state[0], w_hh, b_hh)
    state = cell(gates, hidden, state)
    return state if len(state) > 1 else state[0]


def _rules(run: Callable[..., Any], functions: dict[Any, Cell]) -> dict[Any, Rule]:
    def bound(cell: Cell) -> Callable[..., Any]:
        return lambda tape, *args, **kwargs: run(cell, tape, *args, **kwargs)

    return {function: Rule(bound(cell), always=True) for function, cell in functions.items()}


RECURRENT_RULES = {
    **PACKING_RULES,
    **_rules(
        _recurrent,
        {
            torch.lstm: lstm_cell,
            torch.gru: gru_cell,
            torch.rnn_tanh: tanh_cell,
            torch.rnn_relu: relu_cell,
        },
    ),
    **_rules(
        _recurrent_cell,
        {
            torch.lstm_cell: lstm_cell,
            torch.gru_cell: gru_cell,
            torch.rnn_tanh_cell: tanh_cell,
            torch.rnn_relu_cell: relu_cell,
        },
    ),
}
