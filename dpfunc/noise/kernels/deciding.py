"""Items that single precision leaves open, decided: ``round(scale * Z + f)``, correctly.

Of a pair of normals the first bits of two uniforms are known, and so the cell that its radius and
its quarter angle lie in. On a quarter turn the cosine falls and the sine rises, and the radius is
not negative. So the corners of the cell bound both items, whatever the bits are that were not read.
Where the corners leave a whole number open, more bits make the cell smaller.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.noise.kernels.format import ANGLE_BITS, RADIUS_BITS, Streams, further_words
from dpfunc.random.exact import LazyUniform, exact_floor
from dpfunc.random.keys import fold_in

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

FINE_BITS = 52  # the bounds of a cell are whole multiples of 2**-52, which float64 has exactly
ERROR = 2.0**-46  # see `corners`
_FURTHER_BITS = 256


class Pairs(NamedTuple):
    """Pairs of a release, ``[n]`` each: which they are, and what is added to scale times them.

    ``radius``, ``angle``: the words, as whole numbers from 0 to ``2**32 - 1``.
    """

    which: Wholes
    radius: Wholes
    angle: Wholes
    offsets: tuple[Floats, Floats]


def decided(streams: Streams, pairs: Pairs, scale: float) -> tuple[Floats, Floats]:
    """``round(scale * Z + offset)`` of the cosines and of the sines: whole numbers, float64."""
    radius, angle = pairs.radius >> 1, pairs.angle & (2**ANGLE_BITS - 1)
    items = corners(radius, angle, (RADIUS_BITS, ANGLE_BITS), pairs, scale)
    for which in np.flatnonzero(~(items[0].known & items[1].known)):
        one = slice(which, which + 1)
        pair = Pairs(
            pairs.which[one],
            pairs.radius[one],
            pairs.angle[one],
            (pairs.offsets[0][one], pairs.offsets[1][one]),
        )
        for item, whole in zip(items, by_further_bits(streams, pair, scale), strict=True):
            item.whole[which] = whole
    return items[0].whole, items[1].whole


class Item(NamedTuple):
    """``whole``: the rounded numbers ``[n]``, right where ``known``."""

    whole: Floats
    known: NDArray[np.bool_]


def corners(
    radius: Wholes, angle: Wholes, bits: tuple[int, int], pairs: Pairs, scale: float
) -> tuple[Item, Item]:
    """What the corners of the cells say: for the cosines and for the sines.

    The cell of a pair: U from ``radius`` to ``radius + 1`` in units of ``2**-bits[0]``, the quarter
    angle from ``angle`` to ``angle + 1`` in units of ``2**-bits[1]``.

    With every elementary function within 4 ulp, ``ulp = 2**-52`` of its value: the ends of U are
    exact, so a radius is off by 3 ulp; an end of the angle by 2 ulp of at most pi / 2, so a cosine
    or sine by 4 + pi; products by 2. A corner is off by less than ``13 * 2**-52 scale radius``, and
    adding the offset and 1/2 by ``2**-52 (scale radius + 1)``: less than a quarter of `ERROR` in
    all. U = 0 has an infinite radius, which leaves its item open.
    """
    ends = cells(radius, angle, bits, pairs.angle, scale)
    items = []
    with np.errstate(invalid="ignore"):
        for (least, most), offset in zip(ends, pairs.offsets, strict=True):
            whole = np.floor(least + offset + 0.5)
            items.append(Item(whole, whole == np.floor(most + offset + 0.5)))
    return items[0], items[1]


def cells(
    radius: Wholes, angle: Wholes, bits: tuple[int, int], words: Wholes, scale: float
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Below and above ``scale * Z``, of the cosines and of the sines: see `corners`.

    ``words``: the angle words, for the signs.
    """
    unit, quarter = 2.0 ** -bits[0], math.pi / 2 * 2.0 ** -bits[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        far = scale * np.sqrt(-2 * np.log(radius * unit))
        near = scale * np.sqrt(-2 * np.log((radius + 1) * unit))
        first, last = angle * quarter, (angle + 1) * quarter
        waves = (np.cos(last), np.cos(first)), (np.sin(first), np.sin(last))
        signs = 1.0 - 2.0 * (words >> 31), 1.0 - 2.0 * (words >> 30 & 1)
        error = (far + 1) * ERROR
        found = []
        for (least, most), sign in zip(waves, signs, strict=True):
            ends = sign * near * least, sign * far * most
            found.append((np.minimum(*ends) - error, np.maximum(*ends) + error))
    return found[0], found[1]


def by_further_bits(streams: Streams, pair: Pairs, scale: float) -> tuple[float, float]:
    """Both items of one pair: from 52 bits each, or with as many as it takes."""
    index = int(pair.which[0])
    known = int(pair.radius[0]) >> 1, int(pair.angle[0]) & (2**ANGLE_BITS - 1)
    words = further_words(streams.further, index)
    widths = RADIUS_BITS, ANGLE_BITS
    fine = [
        np.array([first << (FINE_BITS - width) | more[0] >> (64 - FINE_BITS + width)])
        for first, width, more in zip(known, widths, words, strict=True)
    ]
    items = corners(fine[0], fine[1], (FINE_BITS, FINE_BITS), pair, scale)
    uniforms = []
    for first, width, more, name in zip(known, widths, words, ("radius", "angle"), strict=True):
        for word in more:
            first = first << 64 | word
        rest = fold_in(streams.rest, name, index)
        uniforms.append(LazyUniform(first, width + _FURTHER_BITS, rest))
    signs = 1 - 2 * (int(pair.angle[0]) >> 31), 1 - 2 * (int(pair.angle[0]) >> 30 & 1)
    whole = [
        float(item.whole[0])
        if item.known[0]
        else _exactly(uniforms, scale * sign, float(offset[0]), is_sine=bool(side))
        for side, (item, sign, offset) in enumerate(zip(items, signs, pair.offsets, strict=True))
    ]
    return whole[0], whole[1]


def _exactly(uniforms: list[LazyUniform], scale: float, offset: float, *, is_sine: bool) -> float:
    """``floor(scale * radius * wave + offset + 1/2)`` with as many bits as it takes."""

    def value(context: Any, u: Any, v: Any) -> Any:
        quarter = context.pi * v / 2
        wave = context.sin(quarter) if is_sine else context.cos(quarter)
        return scale * context.sqrt(-2 * context.log(u)) * wave + offset + context.mpf(0.5)

    return float(exact_floor(value, *uniforms))
