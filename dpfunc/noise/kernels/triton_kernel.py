"""A release as one Triton kernel: cipher, normals, rounding and further bits, in place.

A program has one piece of the row, and a few of the cipher's blocks that the piece needs. First
single precision decides all pairs but one in two thousand, whose sums stay. Then the program
decides those by the corners of cells of 52 bits, for which it reads their further bits. A few
pairs in 10**12 are left and listed: `dpfunc.noise.kernels.listed` reads more bits for them.
"""

from types import SimpleNamespace
from typing import Any

import torch

from dpfunc.noise.kernels.by_torch import MOST_SQUARE
from dpfunc.noise.kernels.deciding import FINE_BITS
from dpfunc.noise.kernels.format import ANGLE_BITS, BLOCKS, GROUP, PAIRS, RADIUS_BITS, ROWS
from dpfunc.noise.kernels.listed import COLUMNS, ROOM
from dpfunc.noise.kernels.triton_normals import corners, nearest, offset_of, polar
from dpfunc.random.chacha_triton import jit, twenty_rounds

try:
    import triton.language as tl
except ImportError:
    tl = SimpleNamespace(constexpr=float)

_BLOCKS, _GROUP, _PAIRS, _ROWS = map(tl.constexpr, (BLOCKS, GROUP, PAIRS, ROWS))
_MOST_SQUARE = tl.constexpr(MOST_SQUARE)
_COLUMNS, _ROOM = tl.constexpr(COLUMNS + 1), tl.constexpr(ROOM)
_MORE_RADIUS = tl.constexpr(FINE_BITS - RADIUS_BITS)
_MORE_ANGLE = tl.constexpr(FINE_BITS - ANGLE_BITS)

_KEYS = [f"{name}{i}" for name in ("k", "f") for i in range(8)]
"""The arguments that are words of a key: any numbers, which the kernel is not compiled for."""


def kind_of(dtype: torch.dtype) -> Any:
    """Triton's name of a dtype."""
    return {torch.float32: tl.float32, torch.float64: tl.float64}[dtype]


@jit
def _words(key, counter, nonce):  # type: ignore[no-untyped-def]  # Triton reads the annotations
    """The 16 words of blocks of ChaCha20, in two halves: uint32.

    ``nonce``: the first word of it; the others are 0. RFC 8439 section 2.3.
    """
    zero = counter * 0
    c0, c1, c2, c3 = zero + 0x61707865, zero + 0x3320646E, zero + 0x79622D32, zero + 0x6B206574
    k0, k1, k2, k3 = zero + key[0], zero + key[1], zero + key[2], zero + key[3]
    k4, k5, k6, k7 = zero + key[4], zero + key[5], zero + key[6], zero + key[7]
    x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = twenty_rounds(
        c0, c1, c2, c3, k0, k1, k2, k3, k4, k5, k6, k7, counter, nonce, zero, zero
    )
    first = (x0 + c0, x1 + c1, x2 + c2, x3 + c3, x4 + k0, x5 + k1, x6 + k2, x7 + k3)
    second = (x8 + k4, x9 + k5, x10 + k6, x11 + k7, x12 + counter, x13 + nonce, x14, x15)
    return first, second


@jit
def _release_row(radius_word, angle_word, values, item, stop, scale, inverse, grid, small, large):  # type: ignore[no-untyped-def]
    """One row of pairs by single precision; 1 for the pairs that stay open.

    ``item``: of the cosines, in the piece; below 0 or from ``stop`` on it is not the piece's.
    """
    square, radius, cosine, sine = polar(radius_word, angle_word)
    reach = radius * scale
    other = item + _PAIRS
    inside1, inside2 = (item >= 0) & (item < stop), (other >= 0) & (other < stop)
    v1 = tl.load(values + item, inside1, 0.0) * inverse
    v2 = tl.load(values + other, inside2, 0.0) * inverse
    k1, k2 = nearest(v1), nearest(v2)
    y1 = tl.fma(cosine, reach, (v1 - k1).to(tl.float32))
    y2 = tl.fma(sine, reach, (v2 - k2).to(tl.float32))
    w1, w2 = nearest(y1), nearest(y2)
    gap1, gap2 = tl.abs(y1 - w1), tl.abs(y2 - w2)
    room = 0.5 - tl.maximum(gap1, gap2)
    sure = (room * radius > tl.fma(square, large, small)) & (square < _MOST_SQUARE)
    sure = sure & (gap1 + gap2 <= 1.0)  # and neither is NaN, which a maximum may hide
    # Adding 0 makes -0 to 0: its sign would be that of the sum, and tell of it.
    tl.store(values + item, (k1 + w1 + 0.0) * grid, inside1 & sure)
    tl.store(values + other, (k2 + w2 + 0.0) * grid, inside2 & sure)
    return ((inside1 | inside2) & ~sure).to(tl.int32)


@jit
def _decide_open(  # type: ignore[no-untyped-def]
    radius_word, angle_word, further, pair, is_open, values, item, stop, scale, inverse, grid,
    count, listed, number, kind: tl.constexpr,
):  # fmt: skip
    """Pairs that single precision left open, one of each lane, by their cells of 52 bits."""
    low, high = (pair & 0xFFFFFFFF).to(tl.uint32), (pair >> 32).to(tl.uint32)
    more_radius, more_angle = _words(further, low, high)
    # Of the first 64 bits that go on with each, the second word is the higher one.
    radius = (radius_word >> 1).to(tl.int64) << _MORE_RADIUS
    radius = radius | (more_radius[1] >> (32 - _MORE_RADIUS)).to(tl.int64)
    angle = (angle_word & 0x3FFFFFFF).to(tl.int64) << _MORE_ANGLE
    angle = angle | (more_angle[1] >> (32 - _MORE_ANGLE)).to(tl.int64)

    other = item + _PAIRS
    inside1 = is_open & (item >= 0) & (item < stop)
    inside2 = is_open & (other >= 0) & (other < stop)
    v1 = tl.load(values + item, inside1, 0.0) * inverse
    v2 = tl.load(values + other, inside2, 0.0) * inverse
    n1, n2 = nearest(v1), nearest(v2)
    f1, f2 = offset_of(v1, n1), offset_of(v2, n2)
    n1, n2 = n1.to(tl.float64), n2.to(tl.float64)
    w1, w2, known = corners(radius, angle, angle_word, scale, f1, f2)
    noisy1 = tl.where(known, (n1 + w1 + 0.0) * grid, 0.0)
    noisy2 = tl.where(known, (n2 + w2 + 0.0) * grid, 0.0)
    tl.store(values + item, noisy1.to(kind), inside1)
    tl.store(values + other, noisy2.to(kind), inside2)
    is_left = is_open & ~known
    if tl.max(is_left.to(tl.int32), 0) > 0:
        own = tl.atomic_add(count + (pair * 0), 1, is_left)
        row, fits = listed + own.to(tl.int64) * _COLUMNS, is_left & (own < _ROOM)
        tl.store(row, pair.to(tl.float64), fits)
        tl.store(row + 1, radius_word.to(tl.float64), fits)
        tl.store(row + 2, angle_word.to(tl.float64), fits)
        tl.store(row + 3, f1, fits)
        tl.store(row + 4, f2, fits)
        tl.store(row + 5, n1, fits)
        tl.store(row + 6, n2, fits)
        tl.store(row + 7, (pair * 0 + number).to(tl.float64), fits)


@jit
def _chosen(words, lowest):  # type: ignore[no-untyped-def]
    """Of each lane the word of the row whose bit is ``lowest``."""
    word = words[0]
    for row in tl.static_range(1, _ROWS):
        word = tl.where(lowest == 1 << row, words[row], word)
    return word


@jit
def _row_of(lowest):  # type: ignore[no-untyped-def]
    """The row whose bit is ``lowest``."""
    chosen = (lowest * 0).to(tl.int64)
    for row in tl.static_range(1, _ROWS):
        chosen = tl.where(lowest == 1 << row, row, chosen)
    return chosen


@jit
def _piece_of(program, firsts, pieces):  # type: ignore[no-untyped-def]
    """The last piece whose first program is not after this one."""
    piece, last = program * 0, pieces - 1
    while piece < last:
        middle = (piece + last + 1) // 2
        is_mine = tl.load(firsts + middle) <= program
        piece = tl.where(is_mine, middle, piece)
        last = tl.where(is_mine, last, middle - 1)
    return piece


@jit(do_not_specialize=["pieces", "first_piece", "scale_bits", *_KEYS])  # type: ignore[untyped-decorator]
def release_pieces(  # type: ignore[no-untyped-def]
    table, pieces, first_piece, count, listed, scale_bits, inverse, grid, small, large,
    k0, k1, k2, k3, k4, k5, k6, k7, f0, f1, f2, f3, f4, f5, f6, f7,
    kind: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """Release pieces of the dtype ``kind``, ``lanes`` blocks a program.

    ``table``: int64 ``[4, pieces]``: addresses, starts, sizes, and the first program of each.
    ``count``: int32, of the rows in ``listed``, float64 ``[ROOM, COLUMNS + 1]``; it may become
    more. The last column is ``first_piece`` and the piece's place in the table.
    ``scale_bits``: of the float64. ``k*``, ``f*``: the keys of the words and of the further bits.
    """
    program = tl.program_id(0)
    piece = _piece_of(program, table + 3 * pieces, pieces)
    values = tl.load(table + piece).to(tl.pointer_type(kind))
    start = tl.load(table + pieces + piece)
    stop = tl.load(table + 2 * pieces + piece)
    mine = program - tl.load(table + 3 * pieces + piece)
    block = start // _GROUP * _BLOCKS + mine * lanes + tl.arange(0, lanes)
    group, place = block // _BLOCKS, block % _BLOCKS
    item = group * _GROUP + place - start  # of row 0, in the piece
    scale = scale_bits.to(tl.float64, bitcast=True)
    single = scale.to(tl.float32)

    counter = block.to(tl.uint32)
    radius, angle = _words((k0, k1, k2, k3, k4, k5, k6, k7), counter, counter * 0)
    open_rows = (place * 0).to(tl.int32)
    for row in tl.static_range(_ROWS):
        is_open = _release_row(
            radius[row], angle[row], values, item + row * _BLOCKS, stop,
            single, inverse, grid, small, large,
        )  # fmt: skip
        open_rows = open_rows | is_open << row
    further = (f0, f1, f2, f3, f4, f5, f6, f7)
    while tl.max(open_rows, 0) > 0:  # a row of each lane at a time
        lowest = open_rows & -open_rows
        step = _row_of(lowest) * _BLOCKS
        _decide_open(
            _chosen(radius, lowest), _chosen(angle, lowest), further,
            group * _PAIRS + step + place, open_rows != 0, values, item + step, stop,
            scale, inverse, grid, count, listed, first_piece + piece, kind,
        )  # fmt: skip
        open_rows = open_rows & (open_rows - 1)


@jit
def polar_of(radius_words, angle_words, out, count, lanes: tl.constexpr):  # type: ignore[no-untyped-def]
    """`polar` of many words: float32 ``[4, count]``."""
    place = tl.program_id(0) * lanes + tl.arange(0, lanes)
    inside = place < count
    radius_word = tl.load(radius_words + place, inside, 0).to(tl.uint32, bitcast=True)
    angle_word = tl.load(angle_words + place, inside, 0).to(tl.uint32, bitcast=True)
    square, radius, cosine, sine = polar(radius_word, angle_word)
    tl.store(out + place, square, inside)
    tl.store(out + count + place, radius, inside)
    tl.store(out + 2 * count + place, cosine, inside)
    tl.store(out + 3 * count + place, sine, inside)
