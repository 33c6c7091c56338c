"""A release as one compiled pass over memory: cipher, normals and rounding, group by group.

Single precision decides nearly all items (`dpfunc.noise.kernels.by_torch.BOUND`), the corners of a
cell in double precision the rest but for a few in a million, which are listed:
`dpfunc.noise.kernels.deciding` reads more bits for them.
"""

import math
from typing import Any

import numpy as np

from dpfunc.noise.kernels.format import BLOCKS, GROUP, PAIRS, ROWS
from dpfunc.noise.kernels.numba_cipher import fill_rows
from dpfunc.noise.kernels.numba_machine import (
    add,
    as_single,
    as_word,
    compiled,
    conjunction,
    fused,
    items_at,
    left,
    magnitude,
    nearest,
    right,
    right_signed,
    root,
    sub,
    to_single,
    xor,
)

_u32, _f32, _f64 = np.uint32, np.float32, np.float64

# log(1 + z) - z + z**2 / 2 over z**3 on sqrt(1/2) - 1 ... sqrt(2) - 1, to 2**-24.9 of log(1 + z).
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (
    _f32(c)
    for c in (
        *(0.3333390951156616, -0.2500133812427521, 0.19963063299655914, -0.1657758504152298),
        *(0.14914774894714355, -0.14267483353614807, 0.08700409531593323),
    )
)
# sin(pi x / 2) / x and (cos(pi x / 2) - 1) / x**2, in x**2 up to 1/4, to 2**-28 and 2**-34.
_S0, _S1, _S2, _S3 = (
    _f32(c)
    for c in (1.5707963705062866, -0.6459634900093079, 0.07968022674322128, -0.004602177068591118)
)
_C0, _C1, _C2, _C3 = (
    _f32(c)
    for c in (-1.2337005138397217, 0.25366923213005066, -0.02086028829216957, 0.0009040216682478786)
)
_HALF, _ONE, _MINUS_TWO, _LOG_2 = _f32(0.5), _f32(1.0), _f32(-2.0), _f32(math.log(2.0))
_ROOT_HALF = _u32(0x3F3504F3)  # the bits of sqrt(1/2)
_MANTISSA, _SIGN, _EIGHTH = _u32(0x7FFFFF), _u32(0x80000000), _u32(0x1FFFFFFF)
_BITS_31, _UNIT = _f32(31.0), _f32(2.0**-30)
_QUARTER = math.pi / 2 * 2.0**-30


@compiled(inline=True)
def polar(radius_word: Any, angle_word: Any) -> Any:
    """The square of the radius, the radius, and cosine and sine with their signs; float32."""
    above = add(as_word(to_single(right(radius_word, _u32(1))) + _HALF), _u32(0))
    shifted = sub(above, _ROOT_HALF)
    exponent = to_single(right_signed(shifted, _u32(23))) - _BITS_31
    z = as_single(add(conjunction(shifted, _MANTISSA), _ROOT_HALF)) - _ONE
    p = fused(fused(fused(_L6, z, _L5), z, _L4), z, _L3)
    p = fused(fused(fused(p, z, _L2), z, _L1), z, _L0)
    squared = z * z
    log = fused(exponent, _LOG_2, fused(squared * z, p, fused(squared, -_HALF, z)))
    square = log * _MINUS_TWO
    radius = root(square)
    # Beyond an eighth of a turn the angle is taken from the other end, and the waves change places.
    beyond = sub(_u32(0), conjunction(right(angle_word, _u32(29)), _u32(1)))  # all bits or none
    x = (to_single(conjunction(xor(angle_word, beyond), _EIGHTH)) + _HALF) * _UNIT
    y = x * x
    sine = as_word(x * fused(fused(fused(_S3, y, _S2), y, _S1), y, _S0))
    cosine = as_word(fused(y, fused(fused(fused(_C3, y, _C2), y, _C1), y, _C0), _ONE))
    change = conjunction(xor(cosine, sine), beyond)
    cosine = xor(xor(cosine, change), conjunction(angle_word, _SIGN))
    sine = xor(xor(sine, change), conjunction(left(angle_word, _u32(1)), _SIGN))
    return square, radius, as_single(cosine), as_single(sine)


@compiled()
def release_row(radius_words, angle_words, ones, others, open_pairs, settings, kind):  # type: ignore[no-untyped-def]
    """One row of pairs, in place: ``ones`` by the cosines, ``others`` by the sines.

    ``open_pairs`` uint8 ``[BLOCKS]``: 1 where single precision does not decide, and the sums stay.
    ``settings``: see `SETTINGS`. ``kind``: the dtype of the sums.
    """
    scale, small, large = _f32(settings[0]), _f32(settings[3]), _f32(settings[4])
    inverse, grid, most_square, zero = (
        kind(settings[1]),
        kind(settings[2]),
        _f32(settings[5]),
        kind(0),
    )
    for b in range(BLOCKS):
        square, radius, cosine, sine = polar(radius_words[b], angle_words[b])
        reach = radius * scale
        v1, v2 = ones[b] * inverse, others[b] * inverse
        k1, k2 = nearest(v1), nearest(v2)
        y1, y2 = fused(cosine, reach, _f32(v1 - k1)), fused(sine, reach, _f32(v2 - k2))
        w1, w2 = nearest(y1), nearest(y2)
        gap1, gap2 = magnitude(y1 - w1), magnitude(y2 - w2)
        room = _HALF - max(gap1, gap2)
        sure = (room * radius > fused(square, large, small)) & (square < most_square)
        sure &= gap1 + gap2 <= _ONE  # and neither is NaN, which a maximum may hide
        open_pairs[b] = 0 if sure else 1
        # Adding 0 makes -0 to 0: its sign would be that of the sum, and tell of it.
        ones[b] = (k1 + kind(w1) + zero) * grid if sure else ones[b]
        others[b] = (k2 + kind(w2) + zero) * grid if sure else others[b]


@compiled()
def by_corners(radius_word: Any, angle_word: Any, offsets: Any, settings: Any) -> Any:
    """What `corners` says of one pair by its words: both items, and whether they are known."""
    scale = settings[0]
    m, q = _f64(radius_word >> _u32(1)), _f64(angle_word & _u32(0x3FFFFFFF))
    far = scale * math.sqrt(-2.0 * math.log(m * 2.0**-31)) if m > 0 else math.inf
    near = scale * math.sqrt(-2.0 * math.log((m + 1.0) * 2.0**-31))
    first, last = q * _QUARTER, (q + 1.0) * _QUARTER
    error = (far + 1.0) * settings[6]
    found = (0.0, 0.0)
    known = True
    for side in range(2):
        if side == 0:
            least, most = near * math.cos(last), far * math.cos(first)
            negative = angle_word >> _u32(31) & _u32(1)
        else:
            least, most = near * math.sin(first), far * math.sin(last)
            negative = angle_word >> _u32(30) & _u32(1)
        if negative:
            least, most = -most, -least
        whole = np.floor(least + offsets[side] - error + 0.5)
        known = known and whole == np.floor(most + offsets[side] + error + 0.5)
        found = (whole, found[1]) if side == 0 else (found[0], whole)
    return found[0], found[1], known


@compiled()
def release_group(group, rows, sums, open_pairs, settings, listed, count, kind):  # type: ignore[no-untyped-def]
    """One whole group, in place: ``rows`` as `fill_rows` has them, ``sums`` ``[GROUP]``.

    What is left open is listed (`dpfunc.noise.kernels.listed.COLUMNS`), and zero in ``sums``.
    Returns how many are listed then; they may be more than there is room for.
    """
    eights, inverse = open_pairs.view(np.uint64), kind(settings[1])
    for w in range(ROWS):
        low = w * BLOCKS
        ones, others = sums[low : low + BLOCKS], sums[low + PAIRS : low + PAIRS + BLOCKS]
        release_row(rows[w], rows[w + ROWS], ones, others, open_pairs, settings, kind)
        for eight in range(BLOCKS // 8):
            if eights[eight] == 0:
                continue
            for b in range(8 * eight, 8 * eight + 8):
                if open_pairs[b] == 0:
                    continue
                v1, v2 = _f64(ones[b] * inverse), _f64(others[b] * inverse)
                k1, k2 = nearest(v1), nearest(v2)
                f1, f2 = v1 - k1, v2 - k2
                f1 = f1 if abs(f1) <= 0.5 else 0.0  # infinite sums stay what they are
                f2 = f2 if abs(f2) <= 0.5 else 0.0
                w1, w2, known = by_corners(rows[w, b], rows[w + ROWS, b], (f1, f2), settings)
                ones[b] = (k1 + w1 + 0.0) * settings[2] if known else 0.0
                others[b] = (k2 + w2 + 0.0) * settings[2] if known else 0.0
                if not known:
                    if count < len(listed):
                        listed[count, 0] = group * PAIRS + low + b
                        listed[count, 1], listed[count, 2] = rows[w, b], rows[w + ROWS, b]
                        listed[count, 3], listed[count, 4] = f1, f2
                        listed[count, 5], listed[count, 6] = k1, k2
                    count += 1
    return count


SETTINGS = ("scale", "1 / grid", "grid", "small", "large", "most square", "error")
"""What ``settings`` holds, float64: the bound of `by_torch.py`, and the error of `deciding.py`.

They come as numbers, as what is compiled stays while only its own file does not change.
"""


@compiled()
def release_groups(first, last, state, addresses, starts, sizes, settings, listed, kind):  # type: ignore[no-untyped-def]
    """Groups ``first`` to ``last`` of a release in place; how many pairs are listed.

    ``addresses``, ``starts``, ``sizes``: of the pieces, in the order of their starts.
    """
    rows = np.empty((2 * ROWS, BLOCKS), np.uint32)
    sums = np.empty(GROUP, kind)
    open_pairs = np.empty(BLOCKS, np.uint8)
    count, piece = 0, 0
    for group in range(first, last):
        begin, end = group * GROUP, (group + 1) * GROUP
        while piece < len(starts) and starts[piece] + sizes[piece] <= begin:
            piece += 1
        if piece == len(starts):
            break
        if starts[piece] >= end:
            continue
        fill_rows(rows, state, group * BLOCKS)
        if starts[piece] <= begin and starts[piece] + sizes[piece] >= end:  # as nearly always
            values = items_at(addresses[piece], sizes[piece], kind)
            whole = values[begin - starts[piece] : end - starts[piece]]
            count = release_group(group, rows, whole, open_pairs, settings, listed, count, kind)
            continue
        sums[:] = 0.0
        for to_sums in (True, False):
            for p in range(piece, len(starts)):
                if starts[p] >= end:
                    break
                values = items_at(addresses[p], sizes[p], kind)
                low, high = max(begin, starts[p]), min(end, starts[p] + sizes[p])
                own = values[low - starts[p] : high - starts[p]]
                here = sums[low - begin : high - begin]
                if to_sums:
                    here[:] = own
                else:
                    own[:] = here
            if to_sums:
                count = release_group(group, rows, sums, open_pairs, settings, listed, count, kind)
    return count
