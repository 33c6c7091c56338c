"""How many numbers a shape asks for; what is no shape is refused in the name of who was asked."""

import math
from collections.abc import Sequence

from dpfunc.checks import is_count, plain, require


def whole_shape(subject: str, shape: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The sizes as Python ints, and their product; ValueError for a negative or broken size.

    >>> whole_shape("normal", (2, 3))
    ((2, 3), 6)
    """
    require(
        isinstance(shape, Sequence) and not isinstance(shape, str),
        subject,
        "a shape, a tuple of sizes,",
        shape,
        "write (100,) for a hundred numbers",
        error=TypeError,
    )
    sizes = tuple(plain(size) for size in shape)
    for size in sizes:
        require(is_count(size), subject, "a shape of ints >= 0", shape, "pass how many to draw")
    return sizes, math.prod(sizes)
