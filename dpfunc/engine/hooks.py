"""Hooks that a saved or copied model does not carry along."""

from collections.abc import Callable
from typing import Any


def nothing(*args: Any, **kwargs: Any) -> None:
    """What a hook is in a copy of its module."""


class Hook:
    """Calls ``function``. Copied or pickled it does nothing: keys and data stay with the engine."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _nothing, ()


def _nothing() -> Callable[..., None]:
    return nothing


def closure_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """The closure given to ``optimizer.step``; ``args`` begin with the optimizer."""
    closure: Callable[[], Any] | None = kwargs.get("closure", *args[1:2] or (None,))
    return closure
