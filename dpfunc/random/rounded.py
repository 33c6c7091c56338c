"""Normals rounded to whole numbers, correctly: noise for sums that are whole numbers themselves.

``round(scale * Z)`` of a standard normal Z, with the distribution that this has for real numbers:
no error of float arithmetic is left in it. It is therefore the same on every device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.random.continuous import pair_words, polar64
from dpfunc.random.exact import LazyUniform, exact_floor, further_key
from dpfunc.random.keys import Key, bits, fold_in, require_key, runs
from dpfunc.random.shapes import whole_shape

_MOST_SCALE = 2.0**48  # so that every result is a whole number of float64
_RADII = (2.0**-11, 5.7)  # where the loose bound below holds; all but 2e-7 of the draws
_LOOSE = 2.0**-40
_ULP = 2.0**-53


def rounded_normal(
    key: Key, shape: Sequence[int], *, scale: float, device: torch.device | str = "cpu"
) -> Tensor:
    """``round(scale * Z)`` of independent standard normals Z: whole numbers, int64.

    Guarantee: the distribution is that of the real Gaussian, correctly rounded, given random bits:
    ``P(k) = Phi((k + 1/2) / scale) - Phi((k - 1/2) / scale)`` for every k, with no cut tail. The
    same numbers on every device. ``k + round(scale * Z)`` is ``round(k + scale * Z)`` for a whole
    number k: adding these is post-processing of the Gaussian mechanism.

    Box and Muller (1958) in float64 from 128 bits a pair; what the bound on its error leaves open
    is decided by `exact_floor`. Time depends on the noise (never on what it is added to); constant
    time is not claimed.

    | case | result |
    |---|---|
    | ``scale == 0`` | zeros |
    | ``scale`` negative, NaN, or above 2**48 | ValueError |
    | a size of 0 in ``shape`` | an empty tensor |

    >>> from dpfunc.random.keys import key
    >>> rounded_normal(key(0), (2, 3), scale=1000.0).dtype
    torch.int64
    """
    require_key("rounded_normal", key)
    require(
        is_real(scale) and 0 <= scale <= _MOST_SCALE,
        "rounded_normal",
        "0 <= scale <= 2**48",
        scale,
        "pass the standard deviation in units of the lattice",
    )
    sizes, count = whole_shape("rounded_normal", shape)
    values = torch.empty(count, dtype=torch.int64, device=torch.device(device))
    keys, pairs = (fold_in(key, "radius"), fold_in(key, "angle")), -(-count // 2)
    for run in runs(pairs, values.device):  # pair i makes the items i and pairs + i
        first, second = _rounded(*keys, run, scale, values.device)
        values[run] = first
        there = values[pairs + run.start : pairs + run.stop]
        there.copy_(second[: len(there)])  # the last pair of an odd number makes one item
    return values.reshape(sizes)


def _rounded(
    radius_key: Key, angle_key: Key, run: slice, scale: float, device: torch.device
) -> list[Tensor]:
    """What a run of pairs makes by its cosines and by its sines: whole numbers, float64."""
    radius, angle = polar64(*pair_words(radius_key, angle_key, run, device))
    usual, reach, halves = _is_usual(radius), radius * scale, []
    for half, wave in enumerate((torch.cos, torch.sin)):
        real = wave(angle).mul_(reach)
        whole = real.round()
        gap = real.sub_(whole)  # exact: both are multiples of the smaller one's ulp
        for index in _open(gap, radius, scale, usual=usual):
            whole[index] = _decide(radius_key, angle_key, run.start + index, half, scale)
        halves.append(whole)
    return halves


def _is_usual(radius: Tensor) -> bool:
    """Whether the loose bound holds for all of them."""
    if radius.device.type == "meta":  # it has shapes and no values
        return True
    least, most = radius.aminmax()
    return bool((least >= _RADII[0]) & (most <= _RADII[1]))


def _open(gap: Tensor, radius: Tensor, scale: float, *, usual: bool) -> list[int]:
    """The items whose rounding the error of the computed normal leaves open.

    ``gap``: how far the computed value lies from the whole number it was rounded to.
    """
    if gap.device.type == "meta":
        return []
    least, most = gap.aminmax()
    loose = 0.5 - scale * _LOOSE
    if usual and bool((least >= -loose) & (most <= loose)):
        return []
    ordinary = (gap.abs() <= loose) & (radius >= _RADII[0]) & (radius <= _RADII[1])
    suspects = (~ordinary).nonzero()[:, 0]
    r = radius[suspects]
    error = scale * error_bound(r, (r.square() / -2).exp())
    decided = (gap[suspects].abs() + error < 0.5) & (r > 0)  # False where anything is NaN, too
    return suspects[~decided].tolist()


def error_bound(radius: Tensor, u: Tensor) -> Tensor:
    """On ``|computed - real|`` of a standard normal from a pair with this radius, of this uniform.

    In units of ``ulp = 2**-53``, with every elementary function within 4 ulp (oneMKL, SLEEF and
    CUDA document 2 or fewer; the tests measure it):

    - u: its conversion is off by 1 ulp, the bits not read by ``2**-63``;
      so ``log u`` is off by ``1 + 2**-10 / u`` and by ``4 |log u| = 2 r**2``;
    - r, as ``dr = d(log u) / r``: by ``(1 + 2**-10 / u) / r + 2 r``, and 1 r by the root;
    - the angle, at most pi: conversion, the constant pi and the product, ``3 pi``; bits not
      read less than 1; its cosine 4 more: ``15`` in all, times r;
    - the two products by 2 r.

    Together ``(1 + 2**-10 / u) / r + 20 r``; doubled, for terms of second order and the rounding of
    this bound.
    """
    return 2 * _ULP * ((1 + 2.0**-10 / u) / radius + 20 * radius)


def _decide(radius_key: Key, angle_key: Key, pair: int, half: int, scale: float) -> int:
    """One item, exactly: ``floor(scale * r * cos(2 pi v) + 1/2)``, or with the sine."""
    u = LazyUniform(_word(radius_key, pair) % 2**63, 63, further_key(radius_key, pair))
    v = LazyUniform(_word(angle_key, pair) % 2**64, 64, further_key(angle_key, pair))

    def rounded(context: Any, u: Any, v: Any) -> Any:
        wave: Callable[[Any], Any] = context.sin if half else context.cos
        radius = context.sqrt(-2 * context.log(u))
        return scale * radius * wave(2 * context.pi * v) + context.mpf(0.5)

    return exact_floor(rounded, u, v)


def _word(key: Key, index: int) -> int:
    """Word ``index`` of the key's stream."""
    block = index // 8 * 8
    return int(bits(key, index - block + 1, start=block)[-1])
