"""A pass of a GRU (Cho et al. 2014), whose state's part of n is scaled by r.

    r, z = sigmoid(W_ih x_t + W_hh h_{t-1} + b)        u = W_hn h_{t-1} + b_hn
    n = tanh(W_in x_t + b_in + r u)        h_t = n + z (h_{t-1} - n)

Backward:
    d(r, z, n) = dh_t (a u r', (h_{t-1} - n) z', a) with a = (1 - z) n', and du = r dn
    dh_{t-1} = dL/dh_{t-1} + z dh_t + d(r, z) W_h(r,z) + du W_hn
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpfunc.persample.factors.cost import steps_at_once
from dpfunc.persample.recurrence.cells import State
from dpfunc.persample.recurrence.scan import Order, outputs_of, own_grad, transposed

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


@dataclass
class GRUScan:
    """See `Scan`. ``weight [3H, H]``; ``bias [H]``: the state's, of n alone."""

    weight: Tensor
    bias: Tensor | None
    backward: bool
    _previous: Tensor = field(init=False)
    _of_state: Tensor = field(init=False)  # u, and later its gradient, [T, R, H]

    def run(self, gates: Tensor, state: State) -> tuple[Tensor, ...]:
        order = Order(len(gates), self.backward)
        states = order.room(state[0])
        outputs, self._previous = order.after(states), order.before(states)
        self._of_state = torch.empty_like(outputs)
        self._step(order, gates, outputs)
        return outputs_of(outputs), order.last(states)

    def _step(self, order: Order, gates: Tensor, outputs: Tensor) -> None:
        size = outputs.shape[2]
        u, after = self._of_state.unbind(0), outputs.unbind(0)
        r, z, n = (part.unbind(0) for part in gates.chunk(3, 2))
        r_and_z = gates[..., : 2 * size].unbind(0)
        of_r_and_z, of_n = map(transposed, self.weight.split((2 * size, size)))
        bias = self.weight.new_zeros(size) if self.bias is None else self.bias
        h = order.start(self._previous)
        for t in order:
            r_and_z[t].addmm_(h, of_r_and_z).sigmoid_()
            torch.addmm(bias, h, of_n, out=u[t])
            n[t].addcmul_(r[t], u[t]).tanh_()
            h = torch.lerp(n[t], h, z[t], out=after[t])

    def pull(self, gates: Tensor, output: Tensor, last: tuple[Tensor | None, ...]) -> State:
        order, size = Order(len(gates), self.backward), output.shape[2]
        of_r_and_z, of_n = self.weight.split((2 * size, size))
        grads = gates.unflatten(2, (3, -1)).unbind(0)
        grad_r_and_z = gates[..., : 2 * size].unbind(0)
        wanted, grad_u = output.unbind(0), self._of_state.unbind(0)
        carried = own_grad(last[0], self._previous[0])
        dh = torch.empty_like(carried)
        for where, steps in order.from_last(steps_at_once(dh.numel(), dh.device)):
            keeps = self._prepare(gates, where)
            for t in steps:
                torch.add(wanted[t], carried, out=dh)
                grads[t].mul_(dh.unsqueeze(1))
                grad_u[t].mul_(dh)
                carried = dh.mul(keeps[t - where.start])
                carried.addmm_(grad_r_and_z[t], of_r_and_z).addmm_(grad_u[t], of_n)
        return (carried,)

    def products(self, gates_grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        r_and_z = gates_grad[..., : -self._of_state.shape[2]]
        return [(torch.cat([r_and_z, self._of_state], 2), self._previous)]

    def _prepare(self, gates: Tensor, where: slice) -> Tensor:
        """z in ``where``; and in the place of each gate, and of u, what scales its gradient."""
        r, z, n = gates[where].chunk(3, 2)
        u, keeps = self._of_state[where], z.clone()
        _sigmoid_backward(self._previous[where] - n, z, grad_input=z)
        _tanh_backward(1 - keeps, n, grad_input=n)
        of_r = torch.ops.aten.sigmoid_backward(u, r).mul_(n)
        torch.mul(r, n, out=u)
        r.copy_(of_r)
        return keeps
