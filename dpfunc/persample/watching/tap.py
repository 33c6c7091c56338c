"""A tap: at an operation's output, its backward sees the gradient of the whole batch there.

With the operation's input that gradient is the per-sample gradient in factored form. Where the
operation's own backward is known, the tap runs the operation itself (`run_tapped`): vmap then has
nothing to take apart. Else it is the identity on the output (`tap`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.precision import full_precision
from dpfunc.persample.watching.under_vmap import is_mapped, on_whole_batch

ToRows = Callable[[Tensor], Tensor]
"""Brings a tensor of the whole batch into the form ``[B, ...]``."""


class Use(NamedTuple):
    """A parameter's part in an operation: ``factor(input [B, ...], output gradient [B, ...])``."""

    name: str
    factor: Callable[[Tensor, Tensor], Factored]


@dataclass
class Record:
    """What was seen: the factored gradients of each parameter, and the operations that used it.

    ``copied``: the operations without a rule, which got the parameter's expanded copy.
    ``saw_derivative``: whether the loss has derivatives of its own. ``derived``: how many tensors
    made of parameters alone have a name in it.
    """

    factors: dict[str, list[Factored]] = field(default_factory=dict)
    tapped: dict[str, list[str]] = field(default_factory=dict)
    copied: dict[str, list[str]] = field(default_factory=dict)
    saw_derivative: bool = False
    derived: int = 0

    def add(self, name: str, factor: Factored) -> None:
        self.factors.setdefault(name, []).append(factor)

    def clear(self) -> None:
        """Forget everything, for a new run."""
        self.factors, self.tapped, self.copied = {}, {}, {}

    def note(self, uses: Sequence[Use], read: Tensor, grad: Tensor) -> None:
        """Add the factor of each use, of an input ``[B, ...]`` and an output gradient."""
        if read.is_floating_point():  # under autocast the two may differ
            dtype = torch.promote_types(read.dtype, grad.dtype)
            read, grad = read.to(dtype), grad.to(dtype)
        with full_precision():
            for use in uses:
                self.add(use.name, use.factor(read, grad))


def _as_they_are(values: Tensor) -> Tensor:
    return values


@dataclass
class Tapped:
    """What a tap is for. An object, and not a tuple: autograd would take a tuple apart."""

    record: Record
    uses: Sequence[Use]
    read_to_rows: ToRows = _as_they_are
    grad_to_rows: ToRows = _as_they_are

    def note(self, read: Tensor, grad: Tensor) -> None:
        """``read`` detached: the record would else hold the graph that holds it, for ever."""
        self.record.note(self.uses, self.read_to_rows(read), self.grad_to_rows(grad))


def tap(output: Tensor, read: Tensor, probe: Tensor, tapped: Tapped) -> Tensor:
    """``output``, fresh from an operation on ``read``; ``tapped`` is noted in its backward.

    ``probe``: a zero that requires grad, mapped where vmap runs. Through it the tap is reached by
    vmap and by autograd even where neither the input nor the output depends on the data.
    """

    if not torch._C._are_functorch_transforms_active():
        result: Tensor = _Tap.apply(output, read, probe, tapped)  # type: ignore[no-untyped-call]  # torch does not annotate it
        return result

    def below(_: str, probe: Tensor, whole: Tensor, read: Tensor) -> tuple[Tensor]:
        whole = _in_own_memory(whole, expanded=not is_mapped(output))
        return (tap(whole, read, probe, tapped),)  # another vmap may be around

    return on_whole_batch(below, probe, output, read)[0]


def _in_own_memory(whole: Tensor, *, expanded: bool) -> Tensor:
    """An output of the whole batch that is to be marked dirty: a view would copy its base's grad.

    ``expanded``: it was one for all samples.
    """
    if expanded:
        return whole.clone()  # every sample gets its own
    return torch.ops.aten._unsafe_view(whole, whole.shape) if whole._is_view() else whole


class Operation(Protocol):
    """An operation on the whole batch, and its backward, neither with a parameter's gradient."""

    def run(self, read: Tensor) -> Tensor:
        """The output ``[B, ...]`` for the input ``[B, ...]``, in fresh memory: not a view."""
        ...

    def pull(self, read: Tensor, grad: Tensor) -> Tensor:
        """The gradient of the input from that of the output."""
        ...


def run_tapped(operation: Operation, read: Tensor, probe: Tensor, tapped: Tapped) -> Tensor:
    """The operation's output on ``read``; ``tapped`` is noted in its backward. See `tap`."""

    if not torch._C._are_functorch_transforms_active():
        result: Tensor = _RunTapped.apply(operation, read, probe, tapped)  # type: ignore[no-untyped-call]  # as above
        return result

    def below(_: str, probe: Tensor, read: Tensor) -> tuple[Tensor]:
        return (run_tapped(operation, read, probe, tapped),)

    return on_whole_batch(below, probe, read)[0]


class _RunTapped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, operation: Operation, read: Tensor, probe: Tensor, tapped: Tapped
    ) -> Tensor:
        ctx.operation, ctx.tapped = operation, tapped
        ctx.save_for_backward(read)
        return operation.run(read)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, None, None]:
        (read,) = ctx.saved_tensors
        tapped: Tapped = ctx.tapped
        read = read.detach()
        tapped.note(read, grad)
        return None, ctx.operation.pull(read, grad) if ctx.needs_input_grad[1] else None, None, None


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, read: Tensor, probe: Tensor, tapped: Tapped) -> Tensor:
        ctx.mark_dirty(output)  # not a view: in-place operations may follow
        ctx.save_for_backward(read)  # raises in backward if the input was changed in place since
        ctx.tapped = tapped
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (read,) = ctx.saved_tensors
        tapped: Tapped = ctx.tapped
        tapped.note(read.detach(), grad)
        return grad, None, None, None
