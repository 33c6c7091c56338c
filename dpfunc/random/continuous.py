"""Uniform, normal and Laplace floats, each a pure function of a key.

They are as good as floats can be, and no better: what is added to private data to protect it comes
from `dpfunc.random.rounded` or `dpfunc.random.discrete`, whose values are whole numbers drawn
exactly.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.random.keys import Key, bits, fold_in, require_key, runs
from dpfunc.random.shapes import whole_shape

_FLOATS = (torch.float32, torch.float64)
_SIGNIFICANT_BITS = {torch.float32: 24, torch.float64: 53}


def uniform(
    key: Key,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent uniforms on ``[0, 1)``: multiples of ``2**-24`` (float32) or ``2**-53``.

    For coins use `bernoulli`, whose probability is exact to ``2**-64``.

    | case | result |
    |---|---|
    | a size of 0 in ``shape`` | an empty tensor |
    | another dtype, a negative size | ValueError |

    >>> from dpfunc.random.keys import key
    >>> bool((uniform(key(0), (1000,)) < 1).all())
    True
    """
    require_key("uniform", key)
    _require_float("uniform", dtype)
    sizes, count = whole_shape("uniform", shape)
    width = _SIGNIFICANT_BITS[dtype]
    words = bits(key, count, device=device)
    leading = (words >> (64 - width)).bitwise_and_(2**width - 1)
    return leading.to(dtype).mul_(2.0**-width).reshape(sizes)


def normal(
    key: Key,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent standard normals of the given ``shape``: a pure function of ``key``.

    Box and Muller (1958) on the ChaCha20 stream, ``sqrt(-2 log u) cos(2 pi v)`` and its sine. The
    radius has 32 bits for float32 (``|z| <= 6.77``) and 63 bits for float64 (``|z| <= 9.42``); what
    lies beyond has probability below 2e-11 and 1e-20 a draw. Half precision is refused: draw in
    float32 and cast last. The bits are the same on every device, the last digits of the logarithm
    and the cosine are not; `rounded_normal` is the same everywhere.

    | case | result |
    |---|---|
    | a size of 0 in ``shape`` | an empty tensor |
    | ``shape == ()`` | one normal, no axis |
    | another dtype, a negative size | ValueError |

    >>> from dpfunc.random.keys import key
    >>> normal(key(0), (2, 3)).shape
    torch.Size([2, 3])
    """
    require_key("normal", key)
    _require_float("normal", dtype)
    radius_key, angle_key = fold_in(key, "radius"), fold_in(key, "angle")
    place, (sizes, count) = torch.device(device), whole_shape("normal", shape)
    pairs = -(-count // 2)
    z = torch.empty(2 * pairs, dtype=dtype, device=place)
    for run in runs(pairs, place):
        if dtype == torch.float32:
            radius = radius32(_short_words(radius_key, run, place))
            angle = _short_words(angle_key, run, place).to(dtype).mul_(math.pi * 2.0**-31)
        else:
            radius, angle = polar64(*pair_words(radius_key, angle_key, run, place))
        z[run] = angle.cos().mul_(radius)
        z[pairs + run.start : pairs + run.stop] = angle.sin_().mul_(radius)
    return z[:count].reshape(sizes)


def radius32(words: Tensor) -> Tensor:
    """``sqrt(-2 log u)`` in float32 from 32-bit words, ``u = (word + 2**31 + 0.5) / 2**32``."""
    # In float64: a float32 cannot hold the uniforms near 0 that make the tail.
    u = words.to(torch.float64).add_(2.0**31 + 0.5).mul_(2.0**-32)
    return u.log_().mul_(-2.0).to(torch.float32).sqrt_()


def polar64(radius_words: Tensor, angle_words: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and angle in float64 of pairs of 64-bit words.

    ``radius = sqrt(-2 log((m + 0.5) / 2**63))`` of the low 63 bits m of a word, and
    ``angle = 2 pi v / 2**64`` of a whole signed word v.
    """
    radius = uniform63(radius_words).log_().mul_(-2.0).sqrt_()
    return radius, angle_words.to(torch.float64).mul_(math.pi * 2.0**-63)


def pair_words(
    radius_key: Key, angle_key: Key, run: slice, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The words that the radii and the angles of the pairs in ``run`` are made of."""
    size, start = run.stop - run.start, run.start
    radius = bits(radius_key, size, device=device, start=start)
    return radius, bits(angle_key, size, device=device, start=start)


def uniform63(words: Tensor) -> Tensor:
    """``(m + 0.5) / 2**63`` in float64 of the low 63 bits m of each word."""
    return (words & (2**63 - 1)).to(torch.float64).add_(0.5).mul_(2.0**-63)


def laplace(
    key: Key,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent Laplace variables of scale 1 (density ``exp(-|x|) / 2``, variance 2).

    ``-log u`` with the sign of the bit that ``u`` does not use; 63 bits, so ``|x| <= 44.4``, and
    what lies beyond has probability below 1e-19 a draw. To protect data use `discrete_laplace`.

    | case | result |
    |---|---|
    | a size of 0 in ``shape`` | an empty tensor |
    | another dtype, a negative size | ValueError |

    >>> from dpfunc.random.keys import key
    >>> laplace(key(0), (2, 3)).shape
    torch.Size([2, 3])
    """
    require_key("laplace", key)
    _require_float("laplace", dtype)
    sizes, count = whole_shape("laplace", shape)
    words = bits(key, count, device=device)
    sign = torch.where(words < 0, -1.0, 1.0).to(torch.float64)
    return uniform63(words).log_().mul_(sign).to(dtype).reshape(sizes)


def _short_words(key: Key, run: slice, device: torch.device) -> Tensor:
    """32-bit words, two of them from each word of the stream."""
    size = run.stop - run.start
    words = bits(key, -(-size // 2), device=device, start=run.start // 2)
    return words.view(torch.int32)[:size]


def _require_float(subject: str, dtype: torch.dtype) -> None:
    require(
        dtype in _FLOATS,
        subject,
        "dtype float32 or float64",
        dtype,
        "draw in float32 and cast the result",
    )
