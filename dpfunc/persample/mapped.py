"""Samples told apart by vmap: the loss sees one sample, and axis 0 of the batch is mapped."""

from typing import Any

from torch import Tensor

from dpfunc.persample.capture import Tape, replace_tensors
from dpfunc.persample.tap import Operation, Tapped, Use, run_tapped, tap
from dpfunc.persample.whole_batch import Run, is_mapped, on_whole_batch
from dpfunc.types import Tensors


class Mapped:
    """``expanded``: a mapped copy of each parameter. ``probe``: see `tap`."""

    mapped = True

    def __init__(self, expanded: Tensors, probe: Tensor) -> None:
        self._expanded = expanded
        self._probe = probe

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
        return func(*self.copies(tape, args), **self.copies(tape, kwargs))

    def on_whole_batch(self, tape: Tape, run: Run, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        return on_whole_batch(run, self._probe, *inputs)
