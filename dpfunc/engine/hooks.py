"""Hooks that a saved or copied model does not carry along, and that keep nobody alive."""

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod


def nothing(*args: Any, **kwargs: Any) -> None:
    """What a hook is in a copy of its module."""


class Hook:
    """Calls ``method`` for as long as its object lives, and ``else_call`` afterwards.

    Copied or pickled it does nothing: keys and data stay with the engine.
    """

    def __init__(self, method: Callable[..., Any], else_call: Callable[..., Any] = nothing) -> None:
        self._method = WeakMethod(method)
        self._else_call = else_call

    @property
    def is_alive(self) -> bool:
        """Whether the object is still there."""
        return self._method() is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._method() or self._else_call)(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _nothing, ()


def _nothing() -> Callable[..., None]:
    return nothing


def closure_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """The closure given to ``optimizer.step``; ``args`` begin with the optimizer."""
    closure: Callable[[], Any] | None = kwargs.get("closure", *args[1:2] or (None,))
    return closure
