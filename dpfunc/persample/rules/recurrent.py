"""Recurrent layers and cells: the recurrence runs once over the whole batch, watched at its gates.

With ``gates_t = W_ih x_t + b_ih + (W_hh h_{t-1} + b_hh)``, one tap on the input's part of all gates
sees ``d loss / d gates_t`` for every t, which serves all four parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.capture import Factor, Rule, Tape, require_randomness
from dpfunc.persample.factors import Factored
from dpfunc.persample.outer import Outer
from dpfunc.persample.rules.linear import bias_of_last_axis, linear, positions

# (the input's gates, the state's gates, h, c) -> (h, c, factor of the state's gates' gradient)
_Cell = Callable[[Tensor, Tensor, Tensor, Any], tuple[Tensor, Any, Tensor | None]]


def _lstm_cell(x: Tensor, hidden: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any, None]:
    i, f, g, o = (x + hidden).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c, None


def _gru_cell(x: Tensor, hidden: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any, Tensor]:
    size = h.shape[-1]
    r, z = (x[..., : 2 * size] + hidden[..., : 2 * size]).sigmoid().chunk(2, -1)
    n = (x[..., 2 * size :] + r * hidden[..., 2 * size :]).tanh()
    return n + z * (h - n), c, r


def _tanh_cell(x: Tensor, hidden: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any, None]:
    return (x + hidden).tanh(), c, None


def _relu_cell(x: Tensor, hidden: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any, None]:
    return (x + hidden).relu(), c, None


@dataclass
class _Trace:
    """What a pass of a layer leaves for its parameters, by time; detached, see `_Tap.backward`."""

    previous: dict[int, Tensor] = field(default_factory=dict)
    factor: dict[int, Tensor] = field(default_factory=dict)

    def hidden_grad(self, grad: Tensor) -> Tensor:
        """The gradient of the state's gates, from the input's: in a GRU, r scales the last."""
        if not self.factor:
            return grad
        r = _in_time(self.factor)
        size = r.shape[-1]
        return torch.cat([grad[..., : 2 * size], grad[..., 2 * size :] * r], -1)


def _in_time(by_time: dict[int, Tensor]) -> Tensor:
    return torch.stack([by_time[t] for t in range(len(by_time))], 2)  # [B, N, T, H]


@dataclass(frozen=True)
class _Layer:
    """One layer in one direction."""

    weights: Sequence[Tensor]  # W_ih, W_hh and, unless there are none, b_ih, b_hh

    def uses(self, trace: _Trace) -> list[tuple[Tensor, Factor]]:
        def of_hidden_weight(_: Tensor, grad: Tensor) -> Factored:
            hidden = positions(trace.hidden_grad(grad))
            return Outer(hidden, positions(_in_time(trace.previous)))

        def of_hidden_bias(read: Tensor, grad: Tensor) -> Factored:
            return bias_of_last_axis(read, trace.hidden_grad(grad))

        def of_input_weight(read: Tensor, grad: Tensor) -> Factored:
            return Outer(positions(grad), positions(read))

        factors = (of_input_weight, of_hidden_weight, bias_of_last_axis, of_hidden_bias)
        return list(zip(self.weights, factors, strict=False))


@dataclass(frozen=True)
class _Network:
    """A stack of layers, to be run on whole batches: ``x [B, N, T, I]``, states ``[B, N, H]``."""

    tape: Tape
    cell: _Cell
    layers: Sequence[Sequence[_Layer]]  # a layer in one or two directions
    dropout: float

    def run(
        self, randomness: str, probe: Tensor, x: Tensor, h: Tensor, c: Tensor | None
    ) -> tuple[Tensor, ...]:
        require_randomness(randomness, self.dropout, "recurrent")
        last_h: list[Tensor] = []
        last_c: list[Tensor] = []
        for depth, directions in enumerate(self.layers):
            if depth > 0 and self.dropout > 0:
                x = F.dropout(x, self.dropout)
            outputs = []
            for backward, layer in enumerate(directions):
                place = len(last_h)
                cell_state = None if c is None else c[:, place]
                output, h_end, c_end = self._scan(
                    probe, x, h[:, place], cell_state, layer, bool(backward)
                )
                outputs.append(output)
                last_h.append(h_end)
                last_c.append(c_end)
            x = torch.cat(outputs, -1)
        ends = (last_h,) if c is None else (last_h, last_c)
        return x, *(torch.stack(end, 1) for end in ends)

    def _scan(
        self, probe: Tensor, x: Tensor, h: Tensor, c: Any, layer: _Layer, backward: bool
    ) -> tuple[Tensor, Tensor, Any]:
        weights, trace = [self.tape.frozen(w) for w in layer.weights], _Trace()
        input_bias, hidden_bias = weights[2:4] if len(weights) == 4 else (None, None)
        gates = F.linear(x, weights[0], input_bias)  # [B, N, T, gates]
        gates = self.tape.tap_rows(gates, x, probe, *layer.uses(trace))
        outputs: dict[int, Tensor] = {}
        times = range(x.shape[2])
        steps = gates.unbind(2)
        for t in reversed(times) if backward else times:
            trace.previous[t] = h.detach()
            h, c, factor = self.cell(steps[t], F.linear(h, weights[1], hidden_bias), h, c)
            if factor is not None:
                trace.factor[t] = factor.detach()
            outputs[t] = h
        return _in_time(outputs), h, c


def _recurrent(
    cell: _Cell,
    tape: Tape,
    x: Tensor,
    state: Any,
    weights: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> Any:
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if not isinstance(weights, tuple | list) or len(weights) != each * num_layers * directions:
        return NotImplemented  # a packed sequence, or projections
    x, state = tape.copies((x, state))
    h, c = state if isinstance(state, tuple) else (state, None)
    layers = [_Layer(weights[i : i + each]) for i in range(0, len(weights), each)]
    stacked = [layers[i : i + directions] for i in range(0, len(layers), directions)]
    network = _Network(tape, cell, stacked, dropout if train else 0.0)
    x = x if batch_first else x.transpose(0, 1)  # [N, T, I]
    output, *last = tape.on_whole_batch(network.run, x, h, c)
    return (output if batch_first else output.transpose(0, 1)), *last


def _recurrent_cell(
    cell: _Cell,
    tape: Tape,
    x: Tensor,
    state: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Any:
    x, state = tape.copies((x, state))
    h, c = state if isinstance(state, tuple) else (state, None)
    gates, hidden = linear(tape, x, w_ih, b_ih), linear(tape, h, w_hh, b_hh)
    h, c, _ = cell(gates, hidden, h, c)
    return h if c is None else (h, c)


def _rules(run: Callable[..., Any], functions: dict[Any, _Cell]) -> dict[Any, Rule]:
    def bound(cell: _Cell) -> Callable[..., Any]:
        return lambda tape, *args, **kwargs: run(cell, tape, *args, **kwargs)

    return {function: Rule(bound(cell), always=True) for function, cell in functions.items()}


RECURRENT_RULES = {
    **_rules(
        _recurrent,
        {
            torch.lstm: _lstm_cell,
            torch.gru: _gru_cell,
            torch.rnn_tanh: _tanh_cell,
            torch.rnn_relu: _relu_cell,
        },
    ),
    **_rules(
        _recurrent_cell,
        {
            torch.lstm_cell: _lstm_cell,
            torch.gru_cell: _gru_cell,
            torch.rnn_tanh_cell: _tanh_cell,
            torch.rnn_relu_cell: _relu_cell,
        },
    ),
}
