"""Calls that state the size of the batch, run on a part of it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

from dpfunc.persample.batches.nested import replace_tensors

_RESHAPING = {"view", "reshape", "unflatten", "expand"}
_MAKING = {"new_empty", "new_full", "new_ones", "new_zeros"}


def called_on_part(function: Any, args: Any, kwargs: Any, size: int, part: int) -> Any:
    """The call; where it states the size of the batch, that of the part in its place.

    Which of the whole numbers in a shape is the batch's is tried: with a wrong one the numbers of
    entries do not agree.
    """
    if part != size and getattr(function, "__name__", "") in _MAKING:
        args, kwargs = next(_resized((args, kwargs), size, part), (args, kwargs))
    try:
        return function(*args, **kwargs)
    except RuntimeError:
        if getattr(function, "__name__", "") not in _RESHAPING:
            raise
        for other_args, other_kwargs in _resized((args, kwargs), size, part):
            with suppress(RuntimeError):
                return function(*other_args, **other_kwargs)
        raise


def _resized(call: Any, size: int, part: int) -> Iterator[Any]:
    """The call with one of the multiples of ``size`` in it made the same multiple of ``part``."""
    numbers: list[Any] = []
    _replace_leaves(call, numbers.append)
    for place, number in enumerate(numbers):
        whole = isinstance(number, int) and not isinstance(number, bool)
        if whole and number > 0 and number % size == 0:
            yield _with_leaves(
                call, [*numbers[:place], number // size * part, *numbers[place + 1 :]]
            )


def _with_leaves(call: Any, leaves: list[Any]) -> Any:
    turns = iter(leaves)
    return _replace_leaves(call, lambda _: next(turns))


def _replace_leaves(call: Any, fn: Callable[[Any], Any]) -> Any:
    """``call`` with ``fn`` applied to all that is no tensor, and to each number of a size."""

    def replaced(leaf: Any) -> Any:
        return tuple(map(fn, leaf)) if isinstance(leaf, torch.Size) else fn(leaf)

    return replace_tensors(call, lambda tensor: tensor, other=replaced)
