"""One error format for every argument check: what was expected, what came, what to do."""

import math
from typing import Any, TypeGuard


def require(
    ok: bool,
    subject: str,
    expected: str,
    got: object,
    remedy: str,
    *,
    error: type[Exception] = ValueError,
) -> None:
    """Raise ``error`` unless ``ok``: ``{subject}: expected {expected} but got {got}; {remedy}.``"""
    if not ok:
        number = plain(got)
        if number is not got:
            remedy += f", as a Python number: {type(number).__name__}(...)"
        raise error(f"{subject}: expected {expected} but got {got!r}; {remedy}.")


def plain(value: Any) -> Any:
    """A NumPy number, or an array or tensor of no dimensions, as Python's own number.

    Whatever else is left as it is, for a check to refuse.
    """
    if isinstance(value, bool) or type(value) in (int, float):
        return value
    if isinstance(value, int | float):  # of a class that is one: an Enum, numpy.float64
        return int(value) if isinstance(value, int) else float(value)
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return value.item()
    return value


def is_real(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a plain int or float that is not NaN (bool is refused: it is a typo)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a plain int >= 0 (bool is refused: it is a typo)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
