"""Errors in the name of what the user called, where the check is in something that it calls."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Class = TypeVar("Class", bound=type)

_OWN = re.compile(r"([\w.]+)(?=: expected )")


@contextmanager
def in_name_of(subject: str, *, of: str = r"[\w.]+", **renamed: str) -> Iterator[None]:
    """Inside, dpfunc's own errors become errors of ``subject``. Others stay as they are.

    ``of``: a pattern of the names that are changed. ``renamed``: arguments that ``subject`` calls
    by another name.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        said = str(error)
        found = _OWN.match(said)
        if found is None or not re.fullmatch(of, found[1]) or found[1].startswith(subject):
            raise
        said = subject + said[found.end() :]
        for inner, outer in renamed.items():
            said = re.sub(rf"\b{inner}\b", outer, said)
        raise type(error)(said) from error


def own_arguments(
    subject: str, elsewhere: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function whose wrong arguments are to be refused in the name of ``subject``.

    ``elsewhere``: what dpfunc calls an argument that other libraries have.
    """
    known = elsewhere or {}

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                foreign = [known[name] for name in kwargs if name in known]
                raise _refusal(subject, signature, str(error), foreign) from None
            return function(*args, **kwargs)

        return checked

    return decorated


def own_fields(
    subject: str, elsewhere: Mapping[str, str] | None = None
) -> Callable[[Class], Class]:
    """`own_arguments` of the ``__init__`` that a dataclass has by itself."""

    def decorated(cls: Class) -> Class:
        cls.__init__ = own_arguments(subject, elsewhere)(cls.__init__)  # type: ignore[misc]
        return cls

    return decorated


def _refusal(
    subject: str, signature: inspect.Signature, said: str, foreign: list[str]
) -> TypeError:
    names = [p for p in signature.parameters.values() if p.name not in ("self", "_")]
    needed = [p.name for p in names if p.default is p.empty]
    by_name = [p.name for p in names if p.kind is p.KEYWORD_ONLY]
    remedy = "; ".join(foreign) or (
        f"needed: {', '.join(needed) or 'none'}; by name: {', '.join(by_name) or 'none'}"
    )
    return TypeError(f"{subject}: expected its own arguments but got {said!r}; {remedy}.")
