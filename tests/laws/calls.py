"""Calls of torch functions as uses of a parameter: what is trained, what is data, what changes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpfunc.persample.batches.nested import tensors_in
from tests.laws.uses import SAMPLES, Use, numbers

DROPOUT = "randomness error mode"
NO_SAMPLES = "tell the samples apart"


class P(NamedTuple):
    """A parameter of this shape."""

    shape: tuple[int, ...]


class X(NamedTuple):
    """Data: numbers of this shape for each sample, with the samples on ``axis``."""

    shape: tuple[int, ...]
    axis: int = 0


class Index(NamedTuple):
    """Data: whole numbers, one row a sample."""

    rows: list[Any]


class Call(NamedTuple):
    """``function(*given)``. ``refused``: by what message, at all or ``as_batch`` (batched)."""

    function: Any
    given: dict[str, Any]
    changed: str = "as it is"
    refused: str = ""
    as_batch: str = ""
    run: Callable[..., Any] | None = None
    by_hand: Callable[..., Any] | None = None  # where PyTorch's own gradient is wrong
    samples_on: int = 0  # in the parts of a result after the first
    whole_batch: bool = True  # whether `run` is of the whole batch

    def use(self) -> Use:
        """As a use of parameters, see `Use`."""
        params: dict[str, Tensor] = {}
        batch: list[Tensor] = []

        def made(name: str, value: Any) -> Callable[[dict[str, Tensor], tuple[Tensor, ...]], Any]:
            if type(value) is list and isinstance(value[0], P | X):
                parts = [made(f"{name} {i}", part) for i, part in enumerate(value)]
                return lambda params, batch: [part(params, batch) for part in parts]
            if isinstance(value, P):
                params[name] = numbers(len(params), *value.shape) + 0.1
                return lambda params, batch: params[name]
            if isinstance(value, X | Index):
                place = len(batch)
                if isinstance(value, Index):
                    batch.append(torch.tensor(value.rows))
                    return lambda params, batch: batch[place]
                batch.append(numbers(50 + place, SAMPLES, *value.shape))
                return lambda params, batch: batch[place].movedim(0, value.axis)
            return lambda params, batch: value

        makers = {name: made(name, value) for name, value in self.given.items()}

        def outputs(params: dict[str, Tensor], *batch: Tensor) -> Tensor:
            given = {name: make(params, batch) for name, make in makers.items()}
            return self._joined(self._called(given))

        return Use(outputs, params, tuple(batch))

    def _called(self, given: dict[str, Any]) -> Any:
        if self.run is not None:
            return self.run(**given)
        (_, first), *rest = given.items()
        return self.function(first, **dict(rest))

    def _joined(self, result: Any) -> Tensor:
        if isinstance(result, Tensor):
            return result
        first, *rest = tensors_in(result)
        parts = [first, *(part.movedim(self.samples_on, 0) for part in rest)]
        return torch.cat([part.flatten(1) for part in parts], 1)


def family(function: Any, base: dict[str, Any], *changes: Any, **options: Any) -> Iterator[Call]:
    """The call ``base``, and for each of ``changes`` (dicts, or pairs with messages) another."""
    base_call = Call(function, base, **options)
    yield base_call
    for each in changes:
        change, *messages = each if isinstance(each, tuple) else (each,)
        changed = ", ".join(f"{name}={_short(value)}" for name, value in change.items())
        given = {name: value for name, value in {**base, **change}.items() if value is not DROP}
        call = base_call._replace(given=given, changed=changed)
        yield call._replace(**dict(zip(("refused", "as_batch"), messages, strict=False)))


DROP = object()
"""The change that leaves an argument out."""


def _short(value: Any) -> str:
    return "tensor" if isinstance(value, Tensor) else "left out" if value is DROP else str(value)
