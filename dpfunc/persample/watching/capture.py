"""Watching a loss as it runs: who uses which parameter, and a tap on the output of each such use.

The loss runs once over the batch, with plain parameters, inside a `Tape`. Where an operation uses a
parameter, a rule computes it without the parameter's gradient and taps its output. Where no rule
knows the operation, the parameter is replaced by its copy expanded over the batch, and autograd
itself computes the per-sample gradients. How the samples of a batch are told apart meanwhile is the
business of `Samples`: by vmap (`mapped.py`), or by an axis of each tensor (`rows.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.watching.tap import Operation, Record, Tapped, Use, tap
from dpfunc.persample.watching.under_vmap import Run, differentiates_above, transforms_above
from dpfunc.types import Tensors

Factor = Callable[[Tensor, Tensor], Factored]
"""From an operation's input ``[B, ...]`` and its output's gradient, see `Use`."""


class UnfactoredError(RuntimeError):
    """The loss has derivatives of its own: the dense engine can run it, the factored one cannot."""


def require_randomness(randomness: str, dropout_p: float, where: str) -> None:
    """RuntimeError, in the words of vmap, where dropout meets ``randomness="error"``."""
    if dropout_p > 0 and randomness != "different":
        raise RuntimeError(
            f"vmap: called random operation ({where} dropout) while in randomness error mode; "
            'pass randomness="different".'
        )


_DERIVATIVES = {torch.autograd.grad, torch.autograd.backward, Tensor.backward}


def unfactored(what: str) -> UnfactoredError:
    """The error for a loss that does ``what``."""
    return UnfactoredError(
        f"factored_grad: expected a loss without derivatives of its own but got {what}; write them "
        'with torch.func.grad, and use engine="auto" or engine="dense", which can run such a loss.'
    )


class Rule(NamedTuple):
    """How to run an operation: ``run(tape, *args, **kwargs)``, which may return NotImplemented.

    ``always``: also where no parameter is among the arguments.
    """

    run: Callable[..., Any]
    always: bool = False


class Samples(Protocol):
    """How the samples of a batch are told apart while a loss runs.

    ``mapped``: whether the loss sees one sample, under vmap, or the whole batch.
    """

    @property
    def mapped(self) -> bool: ...

    def watch(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        """Refuse an operation on data alone that puts samples in another order."""
        ...

    def tap(self, tape: "Tape", output: Tensor, read: Tensor, uses: list[Use]) -> Tensor:
        """``output`` with ``uses`` noted in backward."""
        ...

    def run(self, tape: "Tape", operation: Operation, read: Tensor, uses: list[Use]) -> Tensor:
        """The output of ``operation`` on ``read`` with ``uses`` noted in backward."""
        ...

    def constant(self, tape: "Tape", value: Tensor) -> bool:
        """Whether ``value``, no parameter, is the same for all samples and has no gradient."""
        ...

    def copies(self, tape: "Tape", value: Any) -> Any:
        """``value`` with each parameter in it replaced by a copy of its own for every sample."""
        ...

    def with_copies(self, tape: "Tape", func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """``func(*args, **kwargs)`` with such copies in the place of parameters."""
        ...

    def on_whole_batch(self, tape: "Tape", run: Run, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """``run(randomness, probe, *inputs)`` on inputs ``[B, ...]``; results as the loss has them.

        A result has its samples where the input of the same place has them.
        """
        ...


class Tape(TorchFunctionMode):
    """Watches every torch function that is called inside it.

    ``params``: leaves that require grad, which no operation may use directly, so that autograd
    tells of a use that escaped.
    """

    def __init__(
        self, rules: Mapping[Any, Rule], params: Tensors, record: Record, samples: Samples
    ) -> None:
        super().__init__()
        self._rules = rules
        self._names = {id(param): name for name, param in params.items()}
        self._complex: set[int] = set()
        self.samples = samples
        self.record = record
        self.operation = ""
        self.saw_derivative = False
        self._level = transforms_above(0)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self.operation = getattr(func, "__name__", str(func))
        rule = self._rules.get(func)
        mentioned = self.mentions(args) or self.mentions(tuple(kwargs.values()))
        if func in _DERIVATIVES:
            raise unfactored(self.operation)
        if transforms_above(self._level):
            self.saw_derivative |= differentiates_above(self._level)
            if mentioned and (self.saw_derivative or not self.samples.mapped):
                raise unfactored(f"a transform of torch.func around {self.operation}")
        if rule is not None and (mentioned or rule.always) and not self._complex_in(args):
            result = rule.run(self, *args, **kwargs)
            if result is not NotImplemented:
                return result
        if not mentioned:
            self.samples.watch(func, args, kwargs)
            return func(*args, **kwargs)
        return self.with_copies(func, *args, **kwargs)

    def again(self, samples: Samples) -> "Tape":
        """For a part of the loss that runs once more: with the same names, and nothing recorded."""
        tape = Tape(self._rules, {}, Record(derived=self.record.derived), samples)
        tape._names, tape._complex = dict(self._names), set(self._complex)
        return tape

    def name(self, value: object) -> str | None:
        """The name of ``value`` if it is a parameter."""
        return self._names.get(id(value))

    def give_name(self, name: str, value: Tensor) -> None:
        """Watch ``value`` like a parameter. It has to live as long as the tape."""
        self._names[id(value)] = name
        if value.is_complex():
            self._complex.add(id(value))

    def mentions(self, value: Any) -> bool:
        """Whether a parameter is in ``value``."""
        if isinstance(value, tuple | list):
            return any(map(self.mentions, value))
        return id(value) in self._names

    def _complex_in(self, value: Any) -> bool:
        """Whether a complex tensor made of parameters is in ``value``: the rules are for reals."""
        if isinstance(value, tuple | list):
            return any(map(self._complex_in, value))
        return id(value) in self._complex

    def frozen(self, value: Any) -> Any:
        """A parameter without its gradient, for the computation of a tapped output."""
        return value.detach() if self.name(value) else value

    def weights_of_all(self, *values: Any) -> bool:
        """Whether each of ``values`` can serve as a weight: a parameter, a constant or None."""
        return all(
            value is None or self.name(value) or self.samples.constant(self, value)
            for value in values
        )

    def copies(self, value: Any) -> Any:
        """See `Samples.copies`."""
        return self.samples.copies(self, value)

    def with_copies(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """See `Samples.with_copies`."""
        return self.samples.with_copies(self, func, args, kwargs)

    def on_whole_batch(self, run: Run, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """See `Samples.on_whole_batch`."""
        return self.samples.on_whole_batch(self, run, *inputs)

    def tap(self, output: Tensor, read: Tensor, *uses: tuple[Any, Factor]) -> Tensor:
        """``output``, fresh from an operation on ``read``.

        ``uses``: what the operation used, each with its factor; parameters among them are noted.
        """
        named = self._named(uses)
        return self.samples.tap(self, output, read, named) if named else output

    def run(self, operation: Operation, read: Tensor, *uses: tuple[Any, Factor]) -> Tensor:
        """The same for an operation whose backward is known, which is run here."""
        return self.samples.run(self, operation, read, self._named(uses))

    def tap_rows(
        self, output: Tensor, read: Tensor, probe: Tensor, *uses: tuple[Any, Factor]
    ) -> Tensor:
        """The same for tensors ``[B, ...]``, in what `on_whole_batch` runs."""
        named = self._named(uses)
        return tap(output, read, probe, Tapped(self.record, named)) if named else output

    def _named(self, uses: tuple[tuple[Any, Factor], ...]) -> list[Use]:
        named = [Use(name, factor) for value, factor in uses if (name := self.name(value))]
        for use in named:
            self.record.tapped.setdefault(use.name, []).append(self.operation)
        return named
