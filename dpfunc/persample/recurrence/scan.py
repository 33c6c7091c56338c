"""A whole pass over time as one operation whose backward is written by hand.

Recorded by autograd, a step is some ten operations, each with a backward of its own. By hand it is
a product and a few operations in place, on buffers ``[T, R, n]`` that lie in memory step by step;
R are the rows that go through time side by side. The gradient of the gates takes the place of the
gates themselves, which nothing needs any more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import slices
from dpfunc.persample.factors.precision import without_autocast
from dpfunc.persample.recurrence.cells import State


class Scan(Protocol):
    """One layer in one direction, for one pass: `run`, then `pull`, then `products`."""

    def run(self, gates: Tensor, state: State) -> tuple[Tensor, ...]:
        """The outputs ``[T, R, P]`` and the last state, in fresh memory.

        ``gates [T, R, n]``: the input's part and all that does not depend on the state; they are
        overwritten with what `pull` needs.
        """
        ...

    def pull(self, gates: Tensor, output: Tensor, last: tuple[Tensor | None, ...]) -> State:
        """The gradient of the first state, from those of the outputs and of the last state.

        ``gates`` are overwritten with their gradient.
        """
        ...

    def products(self, gates_grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of W_hh, and of W_hr where there is one: the gradient of the product, and its input.

        ``gates_grad``: the gradient of the input's part of the gates, which `pull` made.
        """
        ...


@dataclass(frozen=True)
class Order:
    """The order of ``length`` steps in time, in buffers that hold one state more."""

    length: int
    backward: bool

    def __iter__(self) -> Iterator[int]:
        steps = range(self.length)
        return iter(reversed(steps) if self.backward else steps)

    def from_last(self, at_once: int) -> Iterator[tuple[slice, Iterable[int]]]:
        """The steps from the last to the first, in stretches that lie together in time."""
        stretches = slices(self.length, at_once)
        for where in stretches if self.backward else reversed(stretches):
            steps = range(self.length)[where]
            yield where, steps if self.backward else reversed(steps)

    def room(self, first: Tensor) -> Tensor:
        """A buffer ``[T + 1, *first.shape]`` that starts with the state ``first``."""
        states = first.new_empty((self.length + 1, *first.shape))
        states[-1 if self.backward else 0] = first
        return states

    def before(self, states: Tensor) -> Tensor:
        """The state before each step."""
        return states[1:] if self.backward else states[:-1]

    def after(self, states: Tensor) -> Tensor:
        """The state after each step."""
        return states[:-1] if self.backward else states[1:]

    def start(self, by_step: Tensor) -> Tensor:
        """What belongs to the first step."""
        return by_step[-1 if self.backward else 0]

    def last(self, states: Tensor) -> Tensor:
        """A copy of the state after all steps."""
        return states[0 if self.backward else -1].clone()


def outputs_of(states: Tensor) -> Tensor:
    """``states`` as an output: for autograd no view, which may not be changed in place."""
    fresh: Tensor = torch.ops.aten._unsafe_view(states, states.shape)
    return fresh


def transposed(weight: Tensor) -> Tensor:
    """For products with the rows of a step: a quarter faster where it is laid out anew."""
    return weight.T.contiguous()


def own_grad(grad: Tensor | None, state: Tensor) -> Tensor:
    """The gradient of ``state``, in memory of its own; None stands for zeros."""
    return torch.zeros_like(state) if grad is None else grad.clone()


def scan(steps: Scan, gates: Tensor, state: State) -> tuple[Tensor, State]:
    """The outputs and the last state. ``gates``, fresh from their operation, are overwritten."""
    output, *last = _RunScan.apply(steps, gates, *state)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return output, tuple(last)


class _RunScan(torch.autograd.Function):
    @staticmethod
    def forward(steps: Scan, gates: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return steps.run(gates, state)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.steps, gates, *_ = inputs
        # The outputs share the memory of the states. Both saved: a change in place since, by the
        # loss or by an earlier backward, raises.
        ctx.save_for_backward(gates, output[0])
        ctx.set_materialize_grads(False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, output: Tensor | None, *last: Tensor | None) -> tuple[Any, ...]:
        gates, states = ctx.saved_tensors
        gates = gates.detach()
        if output is None:
            output = states.new_zeros(()).expand(states.shape)
        with without_autocast(gates.device):
            first = ctx.steps.pull(gates, output, last)
        return None, gates, *first
