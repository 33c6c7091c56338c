"""A pass of an LSTM, with or without projections (Sak, Senior and Beaufays 2014).

    i, f, o = sigmoid(...), g = tanh(...), each of W_ih x_t + W_hh h_{t-1} + b
    c_t = f c_{t-1} + i g        m_t = o tanh(c_t)        h_t = W_hr m_t, or m_t

Backward, with dh_t = dL/dh_t + dgates_{t+1} W_hh and dm_t = dh_t W_hr, or dh_t:
    dc_t = dm_t o (1 - tanh(c_t)^2) + f_{t+1} dc_{t+1}
    d(i, f, g) = dc_t (g i', c_{t-1} f', i g')        do = dm_t tanh(c_t) o'
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpfunc.persample.factors.cost import steps_at_once
from dpfunc.persample.recurrence.cells import State
from dpfunc.persample.recurrence.scan import Order, outputs_of, own_grad, transposed

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


@dataclass
class LSTMScan:
    """See `Scan`. ``weight [4H, P]``; ``projection [P, H]``, where there is one."""

    weight: Tensor
    projection: Tensor | None
    backward: bool
    _previous: Tensor = field(init=False)
    _unprojected: Tensor = field(init=False)  # m, [T, R, H]
    _projected_grad: Tensor = field(init=False)  # of h, [T, R, P]
    _cells: Tensor = field(init=False)

    def run(self, gates: Tensor, state: State) -> tuple[Tensor, ...]:
        order = Order(len(gates), self.backward)
        states, cells = map(order.room, state)
        outputs, self._previous, self._cells = order.after(states), order.before(states), cells
        self._unprojected = outputs
        if self.projection is not None:
            self._unprojected = torch.empty_like(order.after(cells))
        self._step(order, gates, outputs)
        return outputs_of(outputs), order.last(states), order.last(cells)

    def _step(self, order: Order, gates: Tensor, outputs: Tensor) -> None:
        cells = order.after(self._cells).unbind(0)
        m, every, after = (v.unbind(0) for v in (self._unprojected, gates, outputs))
        h, c = order.start(self._previous), order.start(order.before(self._cells))
        i_and_f = gates[..., : gates.shape[2] // 2].unbind(0)
        i, f, g, o = (part.unbind(0) for part in _parts(gates))
        weight, squashed = transposed(self.weight), torch.empty_like(c)
        projection = None if self.projection is None else transposed(self.projection)
        for t in order:
            every[t].addmm_(h, weight)
            i_and_f[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            c = torch.mul(f[t], c, out=cells[t]).addcmul_(i[t], g[t])
            h = torch.mul(o[t], torch.tanh(c, out=squashed), out=m[t])
            if projection is not None:
                h = torch.mm(h, projection, out=after[t])

    def pull(self, gates: Tensor, output: Tensor, last: tuple[Tensor | None, ...]) -> State:
        order = Order(len(gates), self.backward)
        grads, wanted, grad_o = (v.unbind(0) for v in (gates, output, _parts(gates)[3]))
        grad_i_f_g = gates.unflatten(2, (4, -1))[:, :, :3].unbind(0)
        carried, dc = own_grad(last[0], self._previous[0]), own_grad(last[1], self._cells[0])
        dh = self._room_of_outputs()
        dm = torch.empty_like(dc)
        for where, steps in order.from_last(steps_at_once(dc.numel(), dc.device)):
            forget, slope = self._prepare(gates, where)
            for t in steps:
                torch.add(wanted[t], carried, out=dh[t])
                if self.projection is None:
                    dm = dh[t]
                else:
                    torch.mm(dh[t], self.projection, out=dm)
                dc.addcmul_(dm, slope[t - where.start])
                grad_i_f_g[t].mul_(dc.unsqueeze(1))
                grad_o[t].mul_(dm)
                dc.mul_(forget[t - where.start])
                carried = torch.mm(grads[t], self.weight)
        return carried, dc

    def products(self, gates_grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        hidden = (gates_grad, self._previous)
        if self.projection is None:
            return [hidden]
        return [hidden, (self._projected_grad, self._unprojected)]

    def _room_of_outputs(self) -> Sequence[Tensor]:
        """Where the gradient of h goes at each step: only a projection needs it afterwards."""
        if self.projection is None:
            return (torch.empty_like(self._previous[0]),) * len(self._previous)
        self._projected_grad = torch.empty_like(self._previous)
        return self._projected_grad.unbind(0)

    def _prepare(self, gates: Tensor, where: slice) -> tuple[Tensor, Tensor]:
        """In ``where``: f, and d c / d m; in the place of each gate, what scales its gradient."""
        order = Order(len(gates), self.backward)
        before, after = order.before(self._cells)[where], order.after(self._cells)[where]
        i, f, g, o = _parts(gates[where])
        squashed, forget = after.tanh(), f.clone()
        slope = torch.ops.aten.tanh_backward(o, squashed)
        _sigmoid_backward(squashed, o, grad_input=o)
        _sigmoid_backward(before, f, grad_input=f)
        of_i = torch.ops.aten.sigmoid_backward(g, i)
        _tanh_backward(i, g, grad_input=g)
        i.copy_(of_i)
        return forget, slope


def _parts(gates: Tensor) -> tuple[Tensor, ...]:
    """i, f, g and o, each ``[T, R, H]``."""
    return gates.chunk(4, 2)
