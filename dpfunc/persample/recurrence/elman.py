"""A pass of a plain recurrent layer (Elman 1990): h_t = tanh(W_ih x_t + W_hh h_{t-1} + b), or relu.

Backward, with dh_t = dL/dh_t + dgates_{t+1} W_hh: dgates_t = dh_t (1 - h_t^2), or dh_t [h_t > 0].
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpfunc.persample.recurrence.cells import State
from dpfunc.persample.recurrence.scan import Order, outputs_of, own_grad, transposed


@dataclass
class ElmanScan:
    """See `Scan`. ``weight [H, H]``; ``relu``: in the place of tanh."""

    weight: Tensor
    relu: bool
    backward: bool
    _previous: Tensor = field(init=False)
    _outputs: Tensor = field(init=False)

    def run(self, gates: Tensor, state: State) -> tuple[Tensor, ...]:
        order = Order(len(gates), self.backward)
        states = order.room(state[0])
        self._outputs, self._previous = order.after(states), order.before(states)
        after, x, h = self._outputs.unbind(0), gates.unbind(0), order.start(self._previous)
        weight, bend = transposed(self.weight), torch.relu_ if self.relu else torch.tanh_
        for t in order:
            h = bend(torch.addmm(x[t], h, weight, out=after[t]))
        return outputs_of(self._outputs), order.last(states)

    def pull(self, gates: Tensor, output: Tensor, last: tuple[Tensor | None, ...]) -> State:
        h, wanted, grads = (v.unbind(0) for v in (self._outputs, output, gates))
        carried = own_grad(last[0], self._previous[0])
        dh = torch.empty_like(carried)
        for _, steps in Order(len(gates), self.backward).from_last(1):
            for t in steps:
                torch.add(wanted[t], carried, out=dh)
                self._bend_back(dh, h[t], grads[t])
                carried = torch.mm(grads[t], self.weight)
        return (carried,)

    def products(self, gates_grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(gates_grad, self._previous)]

    def _bend_back(self, grad: Tensor, output: Tensor, total: Tensor) -> None:
        if self.relu:
            torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=total)
        else:
            torch.ops.aten.tanh_backward.grad_input(grad, output, grad_input=total)
