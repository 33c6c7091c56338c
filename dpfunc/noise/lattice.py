"""A sum released on a lattice: noise that floating point cannot give away.

The low bits of the float ``value + noise`` betray the value (Mironov 2012, CCS, section 3; Jin,
McMurtry, Rubinstein and Ohrimenko 2022, arXiv:2112.05307). Here the sum S is rounded to a multiple
of a public power of two, the grid, and noise that is rounded correctly to the grid is added. For a
multiple S of the grid, ``S + round(N) = round(S + N)``: the release is a function of ``S + N`` in
real numbers, that is post-processing of the Gaussian mechanism. Every analysis of the Gaussian
mechanism holds for it as it is, sampled or not, with nothing to add to delta.

What rounding costs is sensitivity: see `widened`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.random.keys import Key
from dpfunc.random.rounded import Draw, draws

Kernel = Callable[[Draw, Tensor, Tensor, float], bool]
"""``kernel(draw, values, released, grid)``: see `dpfunc.noise.fused`."""

_SHARE = 2.0**-10  # of the bound: what the grid may add to the sensitivity, and as much for floats
_BOUNDS = (2.0**-100, 2.0**100)


def spacing(bound: float, size: int) -> float:
    """The grid for ``size`` coordinates: a power of two, at most ``2**-10 bound / sqrt(size)``.

    It is at least half of that, and depends on public numbers alone: a grid that depended on the
    values would betray them. ValueError for a bound outside of 2**-100 to 2**100.

    >>> spacing(1.0, 10_000) == 2.0**-17
    True
    """
    require(
        _BOUNDS[0] <= bound <= _BOUNDS[1],
        "lattice",
        "an L2 bound between 2**-100 and 2**100",
        bound,
        "clip to a max_norm in the range of float32",
    )
    most = _SHARE * bound / math.sqrt(max(size, 1))
    _, exponent = math.frexp(most * (1 - 2.0**-50))  # less what its own rounding may have added
    return math.ldexp(1.0, exponent - 1)


def widened(bound: float) -> float:
    """The L2 sensitivity of a sum that is rounded to the grid: ``(1 + 2**-9) bound``.

    With S and S' the sums of neighbouring data sets as they were computed, and R rounding to the
    nearest multiple of the grid g: each of n coordinates moves by at most g/2 in either sum, so

        ||R(S) - R(S')|| <= ||S - S'|| + sqrt(n) g <= ||S - S'|| + 2**-10 bound.

    The other ``2**-10 bound`` are for the float arithmetic of S: ``||S - S'||`` is at most the
    bound in real numbers, and docs/randomness.md says for which settings ``(1 + 2**-10) bound`` is
    proven for the numbers as computed, and what is only measured for the others.

    >>> widened(1.0) == 1 + 2.0**-9
    True
    """
    return bound * (1 + 2 * _SHARE)


def release(
    values: Tensor, key: Key, *, deviation: float, grid: float, kernel: Kernel | None = None
) -> Tensor:
    """``R(values) + round(N)`` to multiples of ``grid``, ``N`` normal with this standard deviation.

    Guarantee: with ``deviation = noise_multiplier * widened(bound)`` and ``grid = spacing(bound,
    n)`` for the n coordinates that are released together, the Gaussian mechanism of that noise
    multiplier, post-processed. Of the shape and dtype of ``values``, at least float32.

    All of it is float64 arithmetic on whole numbers, which is exact below 2**53; a sum beyond that
    is ``fl(S + N)``, a function of the same real number. ``kernel``: does the same faster
    where it can, to the last bit.

    >>> import torch
    >>> from dpfunc.random.keys import key
    >>> noisy = release(torch.zeros(4), key(0), deviation=1.0, grid=2.0**-10)
    >>> bool((noisy % 2.0**-10 == 0).all())
    True
    """
    flat = values.reshape(-1)
    released = torch.empty_like(flat, dtype=torch.promote_types(values.dtype, torch.float32))
    scale, size = deviation / grid, flat.numel()
    for draw in draws(key, size, scale=scale, device=flat.device, passes=kernel is None):
        if kernel is not None and kernel(draw, flat, released, grid):
            continue
        for where, steps in draw.rounded():
            on_grid = flat[where].to(torch.float64, copy=True).mul_(1 / grid).round_()
            released[where] = steps.add_(on_grid).mul_(grid)
    return released.view(values.shape)
