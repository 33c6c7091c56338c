"""ChaCha20 (RFC 8439) in vector lanes, for numba: a group of blocks, word by word."""

from typing import Any

import numpy as np

from dpfunc.noise.kernels.format import BLOCKS
from dpfunc.noise.kernels.numba_machine import (
    add,
    compiled,
    rotate7,
    rotate8,
    rotate12,
    rotate16,
    xor,
)

_u32 = np.uint32


@compiled(inline=True)
def _quarter(a: Any, b: Any, c: Any, d: Any) -> Any:
    """RFC 8439 section 2.1."""
    a = add(a, b)
    d = rotate16(xor(d, a))
    c = add(c, d)
    b = rotate12(xor(b, c))
    a = add(a, b)
    d = rotate8(xor(d, a))
    c = add(c, d)
    b = rotate7(xor(b, c))
    return a, b, c, d


@compiled(inline=True)
def _two_rounds(  # type: ignore[no-untyped-def]  # sixteen words in, sixteen out
    x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
):
    """RFC 8439 section 2.3: a column round and a diagonal round."""
    x0, x4, x8, x12 = _quarter(x0, x4, x8, x12)
    x1, x5, x9, x13 = _quarter(x1, x5, x9, x13)
    x2, x6, x10, x14 = _quarter(x2, x6, x10, x14)
    x3, x7, x11, x15 = _quarter(x3, x7, x11, x15)
    x0, x5, x10, x15 = _quarter(x0, x5, x10, x15)
    x1, x6, x11, x12 = _quarter(x1, x6, x11, x12)
    x2, x7, x8, x13 = _quarter(x2, x7, x8, x13)
    x3, x4, x9, x14 = _quarter(x3, x4, x9, x14)
    return x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15


@compiled()
def fill_rows(rows: Any, state: Any, first_block: Any) -> None:
    """``rows[w, b]``: word w of block ``first_block + b``, uint32 ``[16, BLOCKS]``.

    ``state``: the initial state of RFC 8439 section 2.3 with counter 0, uint32 ``[16]``. The
    rounds are written out: a loop in this one would keep it from vector registers.
    """
    s0 = state[0]
    s1 = state[1]
    s2 = state[2]
    s3 = state[3]
    s4 = state[4]
    s5 = state[5]
    s6 = state[6]
    s7 = state[7]
    s8 = state[8]
    s9 = state[9]
    s10 = state[10]
    s11 = state[11]
    s13 = state[13]
    s14 = state[14]
    s15 = state[15]
    for b in range(BLOCKS):
        s12 = add(_u32(first_block), _u32(b))
        x0, x1, x2, x3 = s0, s1, s2, s3
        x4, x5, x6, x7 = s4, s5, s6, s7
        x8, x9, x10, x11 = s8, s9, s10, s11
        x12, x13, x14, x15 = s12, s13, s14, s15
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = _two_rounds(
            x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15
        )
        rows[0, b] = add(x0, s0)
        rows[1, b] = add(x1, s1)
        rows[2, b] = add(x2, s2)
        rows[3, b] = add(x3, s3)
        rows[4, b] = add(x4, s4)
        rows[5, b] = add(x5, s5)
        rows[6, b] = add(x6, s6)
        rows[7, b] = add(x7, s7)
        rows[8, b] = add(x8, s8)
        rows[9, b] = add(x9, s9)
        rows[10, b] = add(x10, s10)
        rows[11, b] = add(x11, s11)
        rows[12, b] = add(x12, s12)
        rows[13, b] = add(x13, s13)
        rows[14, b] = add(x14, s14)
        rows[15, b] = add(x15, s15)
