"""Watching a loss as it runs: who uses which parameter, and a tap on the output of each such use.

The loss runs once under vmap, with plain (not mapped) parameters, inside a `Tape`. Where an
operation uses a parameter, a rule computes it without the parameter's gradient and taps its output;
the tap's backward sees the gradient of the whole batch there, and with the operation's input that
is the per-sample gradient in factored form. Where no rule knows the operation, the parameter is
replaced by its copy expanded over the batch, and autograd itself computes the per-sample gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.factors import Factored
from dpfunc.persample.precision import full_precision
from dpfunc.persample.whole_batch import batch_first
from dpfunc.types import Tensors


class Use(NamedTuple):
    """A parameter's part in an operation: ``factor(input [B, ...], output gradient [B, ...])``."""

    name: str
    factor: Callable[[Tensor, Tensor], Factored]


def require_randomness(randomness: str, dropout_p: float, where: str) -> None:
    """RuntimeError, in the words of vmap, where dropout meets ``randomness="error"``."""
    if dropout_p > 0 and randomness != "different":
        raise RuntimeError(
            f"vmap: called random operation ({where} dropout) while in randomness error mode; "
            'pass randomness="different".'
        )


class Rule(NamedTuple):
    """How to run an operation: ``run(tape, *args, **kwargs)``, which may return NotImplemented.

    ``always``: also where no parameter is among the arguments.
    """

    run: Callable[..., Any]
    always: bool = False


@dataclass
class Record:
    """What was seen: the factored gradients of each parameter, and the operations that used it.

    ``copied``: the operations without a rule, which got the parameter's expanded copy.
    """

    factors: dict[str, list[Factored]] = field(default_factory=dict)
    tapped: dict[str, list[str]] = field(default_factory=dict)
    copied: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, factor: Factored) -> None:
        self.factors.setdefault(name, []).append(factor)


class _Tap(torch.autograd.Function):
    """The identity on an operation's fresh output, which sees its gradient in backward.

    ``probe`` is a mapped zero that requires grad: through it the tap is reached by vmap and by
    autograd even where neither the input nor the output depends on the data.
    """

    @staticmethod
    def forward(output: Tensor, read: Tensor, probe: Tensor, uses: "_Uses") -> Tensor:
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        fresh, read, _, uses = inputs
        ctx.mark_dirty(fresh)  # not a view: in-place operations may follow
        ctx.save_for_backward(read)  # raises in backward if the input was changed in place since
        ctx.uses = uses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (read,) = ctx.saved_tensors
        # Detached: the record would else hold the graph that holds the record, and never be freed.
        ctx.uses.note(read.detach(), grad)
        return grad, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        output: Tensor,
        read: Tensor,
        probe: Tensor,
        uses: "_Uses",
    ) -> tuple[Tensor, int]:
        size = info.batch_size
        whole_output = batch_first(output, in_dims[0], size)
        if whole_output is not output:
            whole_output = whole_output.clone()  # a view must not be marked dirty
        return _tap(whole_output, batch_first(read, in_dims[1], size), probe, uses), 0


def _tap(output: Tensor, read: Tensor, probe: Tensor, uses: "_Uses") -> Tensor:
    tapped: Tensor = _Tap.apply(  # type: ignore[no-untyped-call]  # torch does not annotate it
        output, read, probe, uses
    )
    return tapped


@dataclass
class _Uses:
    """An object, and not a tuple: autograd would take a tuple apart."""

    uses: Sequence[Use]
    record: Record

    def note(self, read: Tensor, grad: Tensor) -> None:
        if read.is_floating_point():  # under autocast the two may differ
            dtype = torch.promote_types(read.dtype, grad.dtype)
            read, grad = read.to(dtype), grad.to(dtype)
        with full_precision():
            for use in self.uses:
                self.record.add(use.name, use.factor(read, grad))


class Tape(TorchFunctionMode):
    """Watches every torch function that is called inside it.

    ``params``: leaves that require grad, which no operation may use directly, so that autograd
    tells of a use that escaped. ``expanded``: the same, mapped over the batch. ``probe``: see
    `_Tap`.
    """

    def __init__(
        self,
        rules: Mapping[Any, Rule],
        params: Tensors,
        expanded: Tensors,
        probe: Tensor,
        record: Record,
    ) -> None:
        super().__init__()
        self._rules = rules
        self._names = {id(param): name for name, param in params.items()}
        self._expanded = expanded
        self.probe = probe
        self._record = record
        self._operation = ""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self._operation = getattr(func, "__name__", str(func))
        rule = self._rules.get(func)
        mentioned = self._mentions(args) or self._mentions(tuple(kwargs.values()))
        if rule is not None and (mentioned or rule.always):
            result = rule.run(self, *args, **kwargs)
            if result is not NotImplemented:
                return result
        if not mentioned:
            return func(*args, **kwargs)
        return func(*self.replaced(args), **self.replaced(kwargs))

    def name(self, value: object) -> str | None:
        """The name of ``value`` if it is a parameter."""
        return self._names.get(id(value))

    def frozen(self, value: Any) -> Any:
        """A parameter without its gradient, for the computation of a tapped output."""
        return value.detach() if self.name(value) else value

    def tap(
        self, output: Tensor, read: Tensor, uses: Sequence[Use], probe: Tensor | None = None
    ) -> Tensor:
        """``output``, fresh from an operation, with ``uses`` noted in backward.

        ``probe``: the tape's own below the level of vmap, in a rule that gets the whole batch.
        """
        if not uses:
            return output
        for use in uses:
            self._record.tapped.setdefault(use.name, []).append(self._operation)
        probe = self.probe if probe is None else probe
        return _tap(output, read, probe, _Uses(uses, self._record))

    def _mentions(self, value: Any) -> bool:
        if isinstance(value, tuple | list):
            return any(map(self._mentions, value))
        return id(value) in self._names

    def replaced(self, value: Any) -> Any:
        """Arguments with each parameter among them replaced by its mapped copy."""
        if isinstance(value, dict):
            return {key: self.replaced(part) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(self.replaced, value))
        name = self.name(value)
        if name is None:
            return value
        self._record.copied.setdefault(name, []).append(self._operation)
        return self._expanded[name]
