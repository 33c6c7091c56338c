"""Samples told apart by an axis of each tensor: the loss sees the whole batch, without vmap."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.factors.combine import combined
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.tap import Operation, Record, Tapped, Use, run_tapped, tap
from dpfunc.persample.watching.under_vmap import Run
from dpfunc.persample.whole_batch.order import require_order
from dpfunc.persample.whole_batch.places import (
    Compared,
    Place,
    Places,
    from_rows,
    one_axis,
    to_rows,
)
from dpfunc.persample.whole_batch.unused import unused
from dpfunc.types import Tensors

_SPREADING = {"expand", "expand_as", "broadcast_to", "repeat"}
_IN_PLACE = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__imatmul__"}


@dataclass(frozen=True)
class _Derived:
    """A tensor made of parameters alone, watched like a parameter from there on.

    ``pull``: notes, from its own per-sample gradients ``[B, ...]``, those of what it is made of.
    """

    name: str
    value: Tensor
    pull: Callable[[Tensor], None]


class Rows:
    """``places`` knows the axes. ``probe``: a zero that requires grad, see `tap`."""

    mapped = False

    def __init__(self, places: Places, probe: Tensor, randomness: str) -> None:
        self._places = places
        self._probe = probe
        self._randomness = randomness
        self._expanded: Tensors = {}
        self._derived: list[_Derived] = []

    @property
    def expanded(self) -> Tensors:
        """The mapped copies ``[B, *shape]`` that operations without a rule were given."""
        return self._expanded

    @property
    def derived(self) -> Tensors:
        """The tensors made of parameters alone, by the operation that made them."""
        return {derived.name: derived.value for derived in self._derived}

    def again(self, places: Places, *others: "Rows") -> "Rows":
        """The same copies and derived tensors, with those of ``others``, for a part run again."""
        rows = Rows(places, self._probe, self._randomness)
        for run in (self, *others):
            rows._expanded |= run._expanded
            rows._derived += run._derived
        return rows

    def watch(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        require_order(self._places, func, args, kwargs)

    def tap(self, tape: Tape, output: Tensor, read: Tensor, uses: list[Use]) -> Tensor:
        tapped = Tapped(tape.record, uses)
        derived = self._find_rows(tape, tapped, output, read)
        return tap(output, read, self._probe, tapped) if derived is None else derived

    def run(self, tape: Tape, operation: Operation, read: Tensor, uses: list[Use]) -> Tensor:
        tapped = Tapped(tape.record, uses)
        output = run_tapped(operation, read, self._probe, tapped)
        derived = self._find_rows(tape, tapped, output, read)
        return output if derived is None else derived

    def constant(self, tape: Tape, value: Tensor) -> bool:
        return not value.requires_grad and self._places.of(tape.operation, value) is None

    def copies(self, tape: Tape, value: Any) -> Any:
        if tape.mentions(value):
            raise _refusal(tape, "as its data, and not as its weight")
        return value

    def with_copies(self, tape: Tape, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        call = (args, kwargs)
        own, data = _own_and_data(tape, call)
        if _changes_in_place(tape.operation) and tape.mentions(args[:1]):
            raise _refusal(tape, "in place")
        found = [self._places.find(tape.operation, values) for values in data]
        compared = [place for place in found if isinstance(place, Compared)]
        if any(found) and not compared:
            places = [one_axis(tape.operation, place) for place in found]
            return self._mapped_call(tape, func, call, places)
        outputs = func(*replace_tensors(args, tape.frozen), **replace_tensors(kwargs, tape.frozen))
        if compared:
            refuse = partial(one_axis, tape.operation, compared[0])
            return replace_tensors(outputs, lambda output: unused(output, self._probe, refuse))
        return self._derive_all(tape, func, call, own, outputs)

    def on_whole_batch(self, tape: Tape, run: Run, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        whole: list[Tensor | None] = []
        places = []
        for values in inputs:
            if values is None:
                whole.append(None)
                continue
            place = self._places.of(tape.operation, values)
            if place is None:
                raise _refusal(tape, "with data that is the same for all samples")
            places.append(place)
            whole.append(to_rows(values, place, self._places.size, split=True))
        results = run(self._randomness, self._probe, *whole)
        return tuple(
            from_rows(rows, place, split=True) for rows, place in zip(results, places, strict=True)
        )

    def finish(self, record: Record) -> None:
        """After backward: hand the gradients of derived tensors down to the parameters."""
        for derived in reversed(self._derived):
            parts = record.factors.pop(derived.name, None)
            if parts:
                derived.pull(combined(parts).dense())

    def _find_rows(self, tape: Tape, tapped: Tapped, output: Tensor, read: Tensor) -> Tensor | None:
        """Tell ``tapped`` where the samples are. An output that is the same for all is derived."""
        size = self._places.size
        place = self._places.of(tape.operation, output)
        read_place = self._places.of(tape.operation, read)
        tapped.read_to_rows = lambda values: to_rows(values, read_place, size)
        if place is not None:
            tapped.grad_to_rows = lambda values: to_rows(values, place, size)
            return None
        constant = read.detach()
        return self._derive(tape, output, lambda rows: tapped.note(constant, rows))

    def _mapped_call(self, tape: Tape, func: Any, call: Any, places: list[Place | None]) -> Any:
        """An operation without a rule, on data: run on batches of one by vmap, with copies."""
        learned = iter(tensors_in(_run_on_clones(func, call)) if self._places.learning else ())
        of_data = iter(places)
        tensors: list[Tensor] = []

        def note(values: Tensor) -> None:
            if tape.name(values):
                tensors.append(self._copy(tape, values))
            else:
                tensors.append(to_rows(values, next(of_data), self._places.size, split=True))

        replace_tensors(call, note)

        form: Any = None  # of the outputs: some of several may be None

        def run(*mapped: Tensor) -> tuple[Tensor, ...]:
            nonlocal form
            given = iter(mapped)
            args, kwargs = replace_tensors(call, lambda _: next(given))
            form = func(*args, **kwargs)
            return tuple(tensors_in(form))

        outputs = iter(torch.func.vmap(run, randomness=self._randomness)(*tensors))

        def put_back(_: Tensor) -> Tensor:
            rows = next(outputs)
            if self._places.learning:
                place = self._places.of(tape.operation, next(learned))
            else:
                place = self._places.next(tape.operation)
            if place is None:
                raise _refusal(tape, "together with data, into a result that mixes samples")
            values = from_rows(rows, place, split=True)
            if not self._places.learning:
                self._places.check(tape.operation, values)
            return values

        return replace_tensors(form, put_back)

    def _copy(self, tape: Tape, param: Tensor) -> Tensor:
        name = tape.name(param) or ""
        tape.record.copied.setdefault(name, []).append(tape.operation)
        if name not in self._expanded:
            expanded = param.detach().expand(self._places.size, *param.shape)
            self._expanded[name] = expanded.requires_grad_()
        return self._expanded[name]

    def _derive_all(self, tape: Tape, func: Any, call: Any, own: list[Tensor], outputs: Any) -> Any:
        """Outputs of an operation on parameters alone."""
        total = len(tensors_in(outputs))
        position = iter(range(total))

        def derive(output: Tensor) -> Tensor:
            index = next(position)
            if not (output.is_floating_point() or output.is_complex()):
                return output
            place = self._places.of(tape.operation, output)
            if place is not None and tape.operation in _SPREADING:
                return self._spread(tape, own[0], output, place)
            if place is not None:
                raise _refusal(tape, "to make a tensor that grows with the batch")
            for param in own:
                name = tape.name(param) or ""
                tape.record.copied.setdefault(name, []).append(tape.operation)
            names = [tape.name(param) or "" for param in own]
            pull = _pullback(tape.record, func, call, own, names, index)
            return self._derive(tape, output, pull)

        return replace_tensors(outputs, derive)

    def _spread(self, tape: Tape, param: Tensor, output: Tensor, place: Place) -> Tensor:
        """``param.expand(B, ...)`` and its like: every sample gets the parameter."""

        def of_param(_: Tensor, grad: Tensor) -> Factored:
            # What a sample got is the parameter, repeated.
            lengths = (1,) * (grad.dim() - 1 - param.dim()) + tuple(param.shape)
            times = [whole // part for whole, part in zip(grad.shape[1:], lengths, strict=True)]
            (rows,) = _vjp_of_rows(lambda value: value.repeat(*times), grad, param.detach())
            return Dense(rows)

        name, size = tape.name(param) or "", self._places.size
        tape.record.tapped.setdefault(name, []).append(tape.operation)
        tapped = Tapped(
            tape.record,
            [Use(name, of_param)],
            lambda read: read.expand(size),
            lambda grad: to_rows(grad, place, size, split=True),
        )
        return tap(output.clone(), self._probe.detach(), self._probe, tapped)

    def _derive(self, tape: Tape, output: Tensor, pull: Callable[[Tensor], None]) -> Tensor:
        name = f"{tape.operation} #{tape.record.derived}"  # unique among runs of one record
        tape.record.derived += 1
        value = output.detach().requires_grad_()
        tape.give_name(name, value)
        self._derived.append(_Derived(name, value, pull))
        return value


def _pullback(
    record: Record, func: Any, call: Any, own: list[Tensor], names: list[str], index: int
) -> Callable[[Tensor], None]:
    """From the per-sample gradients of an output of ``func`` to those of the parameters in it."""
    frozen = [param.detach() for param in own]

    def of_own(*values: Tensor) -> Tensor:
        given = {id(param): value for param, value in zip(own, values, strict=True)}
        args, kwargs = replace_tensors(call, lambda t: given.get(id(t), t))
        output: Tensor = tensors_in(func(*args, **kwargs))[index]
        return output

    def pull(rows: Tensor) -> None:
        grads = _vjp_of_rows(of_own, rows, *frozen)
        for name, grad in zip(names, grads, strict=True):
            record.add(name, Dense(grad))

    return pull


def _vjp_of_rows(function: Callable[..., Tensor], rows: Tensor, *at: Tensor) -> tuple[Tensor, ...]:
    """The gradients ``[B, ...]`` at the inputs from those of the output."""
    vjp = torch.func.vjp(function, *at)[1]
    grads: tuple[Tensor, ...] = torch.func.vmap(vjp)(rows)
    return grads


def _run_on_clones(func: Any, call: Any) -> Any:
    args, kwargs = replace_tensors(call, lambda values: values.detach().clone())
    return func(*args, **kwargs)


def _own_and_data(tape: Tape, call: Any) -> tuple[list[Tensor], list[Tensor]]:
    own: dict[int, Tensor] = {}
    data: list[Tensor] = []
    for values in tensors_in(call):
        if tape.name(values):
            own[id(values)] = values
        else:
            data.append(values)
    return list(own.values()), data


def _changes_in_place(operation: str) -> bool:
    return operation in _IN_PLACE or (operation.endswith("_") and not operation.endswith("__"))


def _refusal(tape: Tape, how: str) -> RuntimeError:
    return RuntimeError(
        f"batched: expected to tell the samples apart in {tape.operation}, but it uses a parameter "
        f"{how}; write the loss of one sample instead (no batched), or rewrite that line."
    )
