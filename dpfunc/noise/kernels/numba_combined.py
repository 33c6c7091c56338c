"""A release with a sum of several normals an item, as one compiled pass: see `combined.py`.

For each group the words of all streams are made, and single precision adds up the normals with its
error. What that leaves open the corners of the cells decide, and what these leave open is listed.
"""

import math

import numpy as np

from dpfunc.noise.kernels.format import BLOCKS, GROUP, PAIRS, ROWS
from dpfunc.noise.kernels.numba_cipher import fill_rows
from dpfunc.noise.kernels.numba_kernel import polar
from dpfunc.noise.kernels.numba_machine import compiled, fused, items_at, magnitude, nearest

_f32, _f64, _u32 = np.float32, np.float64, np.uint32
_HALF = _f32(0.5)
_QUARTER = math.pi / 2 * 2.0**-30

LISTED = 2  # columns of ``listed``: pair, and side


@compiled()
def add_up(rows, row, reach, small, large, most_square, cosines, sines, errors):  # type: ignore[no-untyped-def]  # numba types it
    """Add one stream's share of a row of pairs to ``cosines``, ``sines`` and ``errors``."""
    for b in range(BLOCKS):
        square, radius, cosine, sine = polar(rows[row, b], rows[row + ROWS, b])
        far = radius * reach
        error = small / radius + large * radius
        # U that rounds to 1 has a radius of -0, whose error would be -inf.
        error = error if (square > _f32(0)) & (square < most_square) else _f32(np.inf)
        cosines[b] = fused(cosine, far, cosines[b])
        sines[b] = fused(sine, far, sines[b])
        errors[b] += error


@compiled()
def ends_of(radius_word, angle_word, side, reach, error):  # type: ignore[no-untyped-def]  # numba types it
    """Below and above ``reach`` times the normal of a pair: the corners of its cell."""
    m, q = _f64(radius_word >> _u32(1)), _f64(angle_word & _u32(0x3FFFFFFF))
    scale = abs(reach)
    far = scale * math.sqrt(-2.0 * math.log(m * 2.0**-31)) if m > 0 else math.inf
    near = scale * math.sqrt(-2.0 * math.log((m + 1.0) * 2.0**-31))
    begin, end = q * _QUARTER, (q + 1.0) * _QUARTER
    if side == 0:
        least, most = near * math.cos(end), far * math.cos(begin)
        negative = angle_word >> _u32(31) & _u32(1)
    else:
        least, most = near * math.sin(begin), far * math.sin(end)
        negative = angle_word >> _u32(30) & _u32(1)
    if (negative == 1) != (reach < 0):
        least, most = -most, -least
    slack = (far + 1.0) * error
    return least - slack, most + slack


@compiled()
def release_group(group, states, rows, sums, work, numbers, settings, listed, count, kind):  # type: ignore[no-untyped-def]  # numba types it
    """One whole group in place; what is left open keeps its sum and is listed.

    ``rows`` uint32 ``[streams, 16, BLOCKS]``. ``work`` float32 ``[ROWS, 3, BLOCKS]``. ``numbers``
    float32 ``[streams, 3]``: reach, small and large of each. ``settings``: see `SETTINGS`.
    """
    inverse, grid, zero = kind(settings[0]), kind(settings[1]), kind(0)
    most_square, slack, streams = _f32(settings[2]), _f32(settings[3]), len(numbers)
    work[:] = 0.0
    for s in range(streams):  # one by one: its words are still in the cache
        fill_rows(rows[s], states[s], group * BLOCKS)
        reach, small, large = numbers[s, 0], numbers[s, 1], numbers[s, 2]
        for w in range(ROWS):
            one = work[w]
            add_up(rows[s], w, reach, small, large, most_square, one[0], one[1], one[2])
    for w in range(ROWS):
        cosines, sines, errors = work[w, 0], work[w, 1], work[w, 2]
        low = w * BLOCKS
        ones, others = sums[low : low + BLOCKS], sums[low + PAIRS : low + PAIRS + BLOCKS]
        unsure = 0
        for b in range(BLOCKS):
            v1, v2 = ones[b] * inverse, others[b] * inverse
            k1, k2 = nearest(v1), nearest(v2)
            y1, y2 = cosines[b] + _f32(v1 - k1), sines[b] + _f32(v2 - k2)
            w1, w2 = nearest(y1), nearest(y2)
            gap1, gap2 = magnitude(y1 - w1), magnitude(y2 - w2)
            sure = (_HALF - max(gap1, gap2) > errors[b] + slack) & (gap1 + gap2 <= _f32(1.0))
            unsure += 0 if sure else 1
            errors[b] = errors[b] if sure else _f32(np.inf)
            ones[b] = (k1 + kind(w1) + zero) * grid if sure else ones[b]
            others[b] = (k2 + kind(w2) + zero) * grid if sure else others[b]
        if unsure == 0:
            continue
        for b in range(BLOCKS):
            if errors[b] < math.inf:
                continue
            for side in range(2):
                here = ones if side == 0 else others
                v = _f64(here[b] * inverse)
                k = nearest(v)
                offset = v - k
                offset = offset if abs(offset) <= 0.5 else 0.0  # infinite sums stay what they are
                least, most = offset - settings[5], offset + settings[5]
                for s in range(streams):
                    words = rows[s, w, b], rows[s, w + ROWS, b]
                    below, above = ends_of(words[0], words[1], side, settings[6 + s], settings[4])
                    least, most = least + below, most + above
                whole = np.floor(least + 0.5)
                if whole == np.floor(most + 0.5):
                    here[b] = kind((k + whole + 0.0) * settings[1])
                else:
                    if count < len(listed):
                        listed[count, 0], listed[count, 1] = group * PAIRS + low + b, side
                    count += 1
    return count


SETTINGS = ("1 / grid", "grid", "most square", "slack", "error", "sum's error")
"""What ``settings`` holds, float64, before the reach of each stream: scale times its weight."""


@compiled()
def release_groups(  # type: ignore[no-untyped-def]  # numba types it
    first, last, states, address, start, size, numbers, settings, listed, kind
):
    """Groups ``first`` to ``last`` of one piece in place; how many items are listed."""
    streams = len(states)
    rows = np.empty((streams, 2 * ROWS, BLOCKS), np.uint32)
    work = np.empty((ROWS, 3, BLOCKS), np.float32)
    sums = np.empty(GROUP, kind)
    values = items_at(address, size, kind)
    count = 0
    for group in range(first, last):
        low, high = max(group * GROUP, start), min((group + 1) * GROUP, start + size)
        begin = group * GROUP
        if high - low == GROUP:
            whole = values[low - start : high - start]
            count = release_group(
                group, states, rows, whole, work, numbers, settings, listed, count, kind
            )
            continue
        sums[:] = 0.0
        sums[low - begin : high - begin] = values[low - start : high - start]
        count = release_group(
            group, states, rows, sums, work, numbers, settings, listed, count, kind
        )
        values[low - start : high - start] = sums[low - begin : high - begin]
    return count
