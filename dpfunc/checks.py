"""One error format for every argument check: what was expected, what came, what to do."""

import math
from typing import TypeGuard


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
        raise error(f"{subject}: expected {expected} but got {got!r}; {remedy}.")


def is_real(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a plain int or float that is not NaN (bool is refused: it is a typo)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a plain int >= 0 (bool is refused: it is a typo)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
