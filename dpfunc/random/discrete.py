"""Coins and whole numbers with exact probabilities, each a pure function of a key.

Exact means: the distribution named, of real numbers, given random bits; no float rounding and no
cut tail is left in it. Time depends on the values drawn; constant time is not claimed.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, plain, require
from dpfunc.random.continuous import uniform63
from dpfunc.random.exact import LazyUniform, exact_floor, further_key
from dpfunc.random.keys import Key, bits, fold_in, require_key
from dpfunc.random.shapes import whole_shape

_MOST_SCALE = 2.0**40  # so that every value is a whole number of float64
_SMALL = 2.0**-20  # uniforms below it are decided exactly: the bits not read weigh too much there
_LOG_ERROR = 2.0**-42


def bernoulli(
    key: Key, shape: Sequence[int], *, probability: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent coins: bool, True with ``probability`` rounded down to a multiple of ``2**-64``.

    Coin ``i`` is word ``i`` of the key's stream: more coins leave the first ones as they were.

    | case | result |
    |---|---|
    | ``probability`` 0, 1 | all False, all True |
    | not a probability | ValueError |

    >>> from dpfunc.random.keys import key
    >>> bernoulli(key(0), (4,), probability=1.0).all()
    tensor(True)
    """
    require_key("bernoulli", key)
    probability = plain(probability)
    require(
        is_real(probability) and 0 <= probability <= 1,
        "bernoulli",
        "a probability between 0 and 1",
        probability,
        "pass a fraction",
    )
    sizes, count = whole_shape("bernoulli", shape)
    return decided(bits(key, count, device=device), probability=probability).reshape(sizes)


def decided(words: Tensor, *, probability: float) -> Tensor:
    """`bernoulli` of given words of `bits`, which are uniform on ``[-2**63, 2**63)``."""
    # probability * 2**64 is exact: multiplying by a power of two only moves the exponent.
    threshold = int(probability * 2.0**64) - 2**63
    return torch.ones_like(words, dtype=torch.bool) if probability == 1 else words < threshold


def discrete_laplace(
    key: Key, shape: Sequence[int], *, scale: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent whole numbers, int64, with ``P(k)`` proportional to ``exp(-|k| / scale)``.

    Guarantee: added to a whole number of sensitivity ``s``, pure ``s / scale`` differential privacy
    (Ghosh, Roughgarden and Sundararajan 2009, arXiv:0811.2841), exactly.

    The difference of two geometric variables ``floor(-scale log u)``, each decided exactly.

    | case | result |
    |---|---|
    | ``scale == 0`` | zeros |
    | ``scale`` negative, NaN, or above 2**40 | ValueError |

    >>> from dpfunc.random.keys import key
    >>> discrete_laplace(key(0), (2, 3), scale=10.0).shape
    torch.Size([2, 3])
    """
    require_key("discrete_laplace", key)
    scale = plain(scale)
    _require_scale("discrete_laplace", "scale", scale)
    sizes, count = whole_shape("discrete_laplace", shape)
    return _two_sided(key, count, scale, torch.device(device)).reshape(sizes)


def discrete_gaussian(
    key: Key, shape: Sequence[int], *, sigma: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent whole numbers, int64, ``P(k)`` proportional to ``exp(-k**2 / (2 sigma**2))``.

    Guarantee: added to whole numbers of L2 sensitivity ``s``, concentrated differential privacy of
    ``rho = s**2 / (2 sigma**2)`` (Canonne, Kamath and Steinke 2020, arXiv:2004.00010, theorem 4),
    exactly. Its tradeoff curve is not that of the Gaussian mechanism: account it by that theorem.

    Rejection from `discrete_laplace` (their algorithm 3), all the missing numbers at once: accept y
    with probability ``exp(-(|y| - sigma**2 / t)**2 / (2 sigma**2))``, t = floor(sigma) + 1. The
    acceptance is a comparison with ``-log u``, decided exactly.

    | case | result |
    |---|---|
    | ``sigma == 0`` | zeros |
    | ``sigma`` negative, NaN, or above 2**40 | ValueError |

    >>> from dpfunc.random.keys import key
    >>> discrete_gaussian(key(0), (2, 3), sigma=10.0).shape
    torch.Size([2, 3])
    """
    require_key("discrete_gaussian", key)
    sigma = plain(sigma)
    _require_scale("discrete_gaussian", "sigma", sigma)
    sizes, count = whole_shape("discrete_gaussian", shape)
    values = torch.zeros(count, dtype=torch.int64, device=device)
    missing = torch.arange(values.numel() if sigma > 0 else 0, device=device)
    attempt = 0
    while missing.numel() > 0:
        attempt_key = fold_in(key, "attempt", attempt)
        width = float(math.floor(sigma) + 1)
        proposed = _two_sided(attempt_key, missing.numel(), width, missing.device)
        accepted = _accept(fold_in(attempt_key, "accept"), proposed, sigma)
        values[missing[accepted]] = proposed[accepted]
        missing = missing[~accepted]
        attempt += 1
    return values.reshape(sizes)


def _two_sided(key: Key, count: int, scale: float, device: torch.device) -> Tensor:
    """The difference of two geometric variables; also of a scale one above the largest."""
    up = _geometric(fold_in(key, "up"), count, scale, device)
    return up - _geometric(fold_in(key, "down"), count, scale, device)


def _geometric(key: Key, count: int, scale: float, device: torch.device) -> Tensor:
    """``floor(-scale log u)``: whole numbers with ``P(at least k) = exp(-k / scale)``."""
    words, u = _unit(key, count, device)
    real = u.log().mul_(-scale)
    whole = real.floor()
    # Off by the error of the logarithm times the scale, and by the rounding of the product.
    error = scale * _LOG_ERROR + real * 2.0**-52
    is_open = (real - real.round()).abs_() <= error
    for index in _open(is_open, u):

        def value(context: Any, u: Any) -> Any:
            return -scale * context.log(u)

        whole[index] = exact_floor(value, _lazy(key, words, index))
    return whole.to(torch.int64)


def _accept(key: Key, proposed: Tensor, sigma: float) -> Tensor:
    """Coins with probability ``exp(-(|y| - sigma**2 / t)**2 / (2 sigma**2))`` for each y."""
    width = math.floor(sigma) + 1
    words, u = _unit(key, proposed.numel(), proposed.device)
    distance = (proposed.abs().to(torch.float64) / sigma - sigma / width).square_().div_(2)
    margin = -u.log() - distance
    accepted = margin >= 0
    # The distance is off by less than 2**-44 of itself plus one, for |y| up to 100 sigma; farther
    # out it is thousands, and -log u at most 44.
    is_open = margin.abs() <= (distance + 1) * 2 * _LOG_ERROR
    for index in _open(is_open, u):
        y = abs(int(proposed[index]))

        def excess(context: Any, u: Any, y: int = y) -> Any:
            s = context.mpf(sigma)
            return -context.log(u) - ((y - s * s / width) / s) ** 2 / 2

        accepted[index] = exact_floor(excess, _lazy(key, words, index)) >= 0
    return accepted


def _unit(key: Key, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Words, and the uniform floats that begin with their low 63 bits."""
    words = bits(key, count, device=device).bitwise_and_(2**63 - 1)
    return words, uniform63(words)


def _open(is_open: Tensor, u: Tensor) -> list[int]:
    if u.device.type == "meta":  # it has shapes and no values
        return []
    indices: list[int] = (is_open | (u < _SMALL)).nonzero()[:, 0].tolist()
    return indices


def _lazy(key: Key, words: Tensor, index: int) -> LazyUniform:
    return LazyUniform(int(words[index]), 63, further_key(key, index))


def _require_scale(subject: str, name: str, scale: float) -> None:
    require(
        is_real(scale) and 0 <= scale <= _MOST_SCALE,
        subject,
        f"0 <= {name} <= 2**40",
        scale,
        f"pass a finite {name} in whole numbers",
    )
