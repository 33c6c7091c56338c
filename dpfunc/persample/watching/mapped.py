"""Samples told apart by vmap: the loss sees one sample, and axis 0 of the batch is mapped."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from dpfunc.persample.batches.nested import replace_tensors
from dpfunc.persample.factors.combine import combined
from dpfunc.persample.factors.views import VIEWS, put_back
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.tap import Operation, Record, Tapped, Use, run_tapped, tap
from dpfunc.persample.watching.under_vmap import Run, is_mapped, on_whole_batch
from dpfunc.types import Tensors


class _View(NamedTuple):
    """A view of a parameter, watched like a parameter itself."""

    name: str
    value: Tensor
    of: str
    param: Tensor
    view: Callable[[Tensor], Tensor]


class Mapped:
    """``expanded``: a mapped copy of each parameter. ``probe``: see `tap`."""

    mapped = True

    def __init__(self) -> None:
        self._views: list[_View] = []

    def enter(self, expanded: Tensors, probe: Tensor) -> "Mapped":
        """Within vmap, where there are mapped tensors."""
        self._expanded = dict(expanded)
        self._probe = probe
        return self

    def finish(self, record: Record) -> None:
        """After backward: hand the gradients of views to their parameters."""
        for name, _, of, param, view in reversed(self._views):
            record.tapped.setdefault(of, []).extend(record.tapped.pop(name, []))
            record.copied.setdefault(of, []).extend(record.copied.pop(name, []))
            parts = record.factors.pop(name, None)
            if parts:
                record.add(of, put_back(combined(parts), view, param))

    def watch(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        """The loss sees one sample: there is no order."""

    def tap(self, tape: Tape, output: Tensor, read: Tensor, uses: list[Use]) -> Tensor:
        return tap(output, read, self._probe, Tapped(tape.record, uses))

    def run(self, tape: Tape, operation: Operation, read: Tensor, uses: list[Use]) -> Tensor:
        return run_tapped(operation, read, self._probe, Tapped(tape.record, uses))

    def constant(self, tape: Tape, value: Tensor) -> bool:
        return not (is_mapped(value) or value.requires_grad)

    def copies(self, tape: Tape, value: Any) -> Any:
        def copy(tensor: Tensor) -> Tensor:
            name = tape.name(tensor)
            if name is None:
                return tensor
            tape.record.copied.setdefault(name, []).append(tape.operation)
            return self._expanded[name]

        return replace_tensors(value, copy)

    def with_copies(self, tape: Tape, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        if func in VIEWS and args and (of := tape.name(args[0])):
            return self._view(tape, of, args[0], lambda param: func(param, *args[1:], **kwargs))
        return func(*self.copies(tape, args), **self.copies(tape, kwargs))

    def on_whole_batch(self, tape: Tape, run: Run, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        return on_whole_batch(run, self._probe, *inputs)

    def _view(self, tape: Tape, of: str, param: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
        value = view(param)
        if value is param:  # contiguous() of what is contiguous
            return value
        name = f"{of}, view {len(self._views)}"
        tape.give_name(name, value)
        self._views.append(_View(name, value, of, param, view))
        self._expanded[name] = view(self._expanded[of])
        return value
