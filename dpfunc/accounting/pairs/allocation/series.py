"""The law of the mean A of t independent log-normals of mean 1, as a Fourier series with its error.

For c > 0 and a window w, Poisson's formula for the function ``F(x) exp(-c x)`` reads ``sum over m
of F(x + m w) exp(-c m w) = 1 / w * sum over k of M(s_k) exp(s_k x) / s_k``, ``s_k = c + 2 pi i k /
w``, ``M(s) = E[exp(-s A)]`` the t-th power of the transform of one. With F a distribution function
of A > 0 and ``x < w`` the terms of negative m are 0, the others between 0 and ``exp(-c m w)``: the
right-hand side is never below ``F(x)``, and above by ``1 / (exp(c w) - 1)`` at most. Its derivative
gives the density in the same way.

The series is cut where ``|M|`` is small and provably stays so: up to some frequency because
``sqrt(1 - |phi|**2)`` is subadditive for a characteristic function phi, beyond by the line of
integration turned (`lognormal`), where the bound falls like a power.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.allocation.along_line import transform_along
from dpfunc.accounting.pairs.allocation.lognormal import Complex, log_transform, transform
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

_LOG_ALIAS = -50.0  # of all aliases together
_LOG_END = -62.0  # of M where the series is cut
_LOG_SMALL = -55.0  # of M everywhere beyond
_LOG_MISSING = -72.0  # of what `log_transform` may have left out
_MOST_TERMS = 120_000
_LEAST_NOISE = 0.2
_TURNS = np.array([math.pi / 4, math.pi / 8, math.pi / 16])


class Series(NamedTuple):
    """Coefficients of ``exp(s_k x)``, ``k >= 0``, for the densities of A; real parts count."""

    c: float
    spacing: float  # of the s_k
    plain: Complex  # [n] of the law of A under independent log-normals
    sized: Complex  # [n] of that law weighted with A
    error: Array  # [n] absolute, of either
    cut: float  # what is left out of distribution functions, at x = 0
    cut_density: float  # and of densities

    def s(self) -> Complex:
        """The points of the line."""
        return np.asarray(self.c + 1j * self.spacing * np.arange(len(self.plain)), np.complex128)

    def alias(self) -> float:
        """How far a distribution function may be above the truth, for aliases alone."""
        return 1.001 * math.exp(_LOG_ALIAS)


def series(noise_multiplier: float, steps: int, largest: float) -> Series:
    """The series that serves ``0 < x <= largest``, at least 1; or `OutOfReachError`."""
    if noise_multiplier < _LEAST_NOISE:
        raise OutOfReachError
    c, window, spacing = _line(largest)
    end, far = _ends(noise_multiplier, steps, c, _MOST_TERMS * spacing)
    s = np.asarray(c + 1j * spacing * np.arange(math.ceil(end / spacing) + 1), np.complex128)
    one = transform_along(np.asarray(s / steps, np.complex128), noise_multiplier, steps)
    log_one = _log1p(one.plain, one.error)
    plain = np.exp(steps * log_one)
    sized = np.exp((steps - 1) * log_one) * (1 + one.sized)
    size = np.abs(1 + one.plain) + one.error
    lost = steps * one.error / size + 8 * ULP * (1 + steps * (np.abs(log_one) + np.abs(one.plain)))
    error = np.expm1(np.minimum(2 * lost, 700.0)) * np.maximum(np.abs(plain), np.abs(sized))
    error += one.sized_error * np.exp((steps - 1) * np.log(size))
    weight = np.full(len(s), 2.0 / window)
    weight[0] /= 2
    # From the end on |M| falls, or is bounded by what does: sums are below integrals. It is small
    # up to ``far``, and falls with the square at least beyond.
    small = math.exp(_LOG_SMALL) / math.pi
    return Series(
        c=c,
        spacing=spacing,
        plain=plain * weight,
        sized=sized * weight,
        error=error * weight,
        cut=small * (math.log(far / end) + 0.5),
        cut_density=small * 2 * far,
    )


@lru_cache(maxsize=256)
def is_short(noise_multiplier: float, steps: int, largest: float, most_terms: int) -> bool:
    """Whether the series that serves up to ``largest`` has no more terms than that."""
    if noise_multiplier < _LEAST_NOISE:
        return False
    c, _, spacing = _line(largest)
    try:
        _ends(noise_multiplier, steps, c, most_terms * spacing)
    except OutOfReachError:
        return False
    return True


def _line(largest: float) -> tuple[float, float, float]:
    """The real part of the points of the series, its window, and how far they are apart."""
    c = 2.0 / largest
    window = -_LOG_ALIAS / c
    return c, window, 2 * math.pi / window


def distribution(law: Series, x: Array) -> tuple[Array, Array, Array]:
    """How much lies at or below each x: plain, weighted, and a bound on the errors of both."""
    over_s = 1 / law.s()
    found = _summed(law, [law.plain * over_s, law.sized * over_s], x)
    error = _errors(law, np.abs(over_s), x) + law.alias() + law.cut * np.exp(law.c * x)
    return found[0], found[1], error


def masses(law: Series, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """How much lies between ``low`` and ``high``, which are close, to little of itself.

    The density is integrated by three points of Gauss and Legendre: the rule errs by at most
    ``width * |s width|**6 * exp(c width) / 2016000`` for each term of the series.
    """
    points, weights = np.polynomial.legendre.leggauss(3)
    middle, half = (low + high) / 2, (high - low) / 2
    x = middle + half * points[:, None]
    plain, sized = _summed(law, [law.plain, law.sized], x.ravel()).reshape(2, *x.shape)
    error = _errors(law, np.ones(len(law.plain)), x.ravel()).reshape(x.shape)
    width = high - low
    size = np.maximum(np.abs(law.plain), np.abs(law.sized))
    last = float((size * np.abs(law.s()) ** 6).sum())
    rule = width**7 / 2_016_000 * last * math.exp(law.c * float(high.max(initial=0.0)))
    rest = law.alias() + width * law.cut_density * math.e**3
    return weights @ plain * half, weights @ sized * half, weights @ error * half + rule + rest


def _errors(law: Series, factor: Array, x: Array) -> Array:
    """Of the sums of coefficients times ``factor``, by rounding: of coefficients, terms, sums."""
    size = np.maximum(np.abs(law.plain), np.abs(law.sized)) * factor
    error = float((law.error * factor).sum()) + 96 * ULP * float(size.sum())
    return np.asarray(error * np.exp(law.c * x))


def _summed(law: Series, coefficients: list[Complex], x: Array) -> Array:
    """``Re sum of coefficient_k exp(s_k x)`` for every list of coefficients and every x.

    ``exp(s_k x)`` is a product of factors from short tables, k being a multiple of ``short`` and a
    rest: a matrix product over the rests, and a sum in pairs over the multiples. Turns are
    counted in integers that wrap around: ``k x / w`` modulo 1 is rounded as ``x / w`` is, no more,
    which moves x by its last digit.
    """
    short = 32
    long = math.ceil(len(law.plain) / short)
    padded = np.zeros((len(coefficients), long * short), np.complex128)
    padded[:, : len(law.plain)] = coefficients
    blocks = padded.reshape(len(coefficients), long, short)
    turns = (x * (law.spacing / (2 * math.pi)) * 2.0**64).astype(np.uint64)
    found = np.empty((len(coefficients), len(x)))
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) * long // 1_000_000)):
        rests = _unit(np.multiply.outer(turns[rows], np.arange(short, dtype=np.uint64)))
        jumps = _jumps(turns[rows], short, long)
        for one, block in enumerate(blocks):
            found[one, rows] = ((rests @ block.T) * jumps).sum(axis=1).real
    return found * np.exp(law.c * x)


def _jumps(turns: NDArray[np.uint64], each: int, count: int) -> Complex:
    """``exp(2 pi i k each turns / 2**64)``, k below the count: products, as cosines are slow."""
    width = math.isqrt(count) + 1
    steps = each * np.arange(width, dtype=np.uint64)
    fine = _unit(np.multiply.outer(turns, steps))
    coarse = _unit(np.multiply.outer(turns, width * steps))
    both = coarse[:, :, None] * fine[:, None, :]
    return np.asarray(both.reshape(len(turns), -1)[:, :count])


def _unit(turns: NDArray[np.uint64]) -> Complex:
    """``exp(2 pi i turns / 2**64)``."""
    angle = turns.view(np.int64) * (2 * math.pi / 2.0**64)
    unit: Complex = np.cos(angle) + 1j * np.sin(angle)
    return unit


def _ends(noise_multiplier: float, steps: int, c: float, most: float) -> tuple[float, float]:
    """Where the series may end, and from where on it falls with the square of the frequency."""
    power = max(1, steps - 1)  # of the weighted law one factor is only known to be at most 1
    at_zero = _size(noise_multiplier, c / steps, 0.0)

    def log_size(y: float) -> float:
        return power * math.log(_size(noise_multiplier, c / steps, y) / at_zero)

    y = 1e-2 / math.sqrt(power * math.expm1(noise_multiplier**-2))
    while log_size(y) > _LOG_END:
        y *= 1.1
        if y * steps > most:
            raise OutOfReachError
    far = _falls_from(noise_multiplier, power, y)
    _require_small_between(noise_multiplier, power, c / steps, y, far)
    return y * steps, far * steps


def _size(noise_multiplier: float, c: float, y: float) -> float:
    """``|E[exp(-(c + i y) X)]|``, rounded up."""
    at = transform(np.array([c + 1j * y]), noise_multiplier, 1)
    return float(np.abs(1 + at.plain[0]) + at.error[0])


def _falls_from(noise_multiplier: float, power: int, start: float) -> float:
    """A y beyond which the power of the transform is small, and falls like ``1 / y**2``.

    On a line turned by beta, ``|E[exp(-s X)]| <= exp((beta sigma)**2 / 2) E[exp(-y sin(beta) X)]``
    where ``y = Im s``. The logarithm of the last factor is concave in ``log y``: it is that of a
    convolution of two log-concave functions of ``log y`` (Prekopa 1973). So between ``y / 2`` and y
    it falls no faster than beyond.
    """
    y = start * np.geomspace(1.0, 1e15, 150)
    for beta in _TURNS:
        fixed = (beta * noise_multiplier) ** 2 / 2
        here, before = (
            np.logaddexp(log_transform(math.sin(beta) * at, noise_multiplier), _LOG_MISSING) + 1e-12
            for at in (y, y / 2)
        )
        good = (power * (fixed + here) <= _LOG_SMALL) & (
            power * (before - here) > 2.1 * math.log(2)
        )
        if good.any():
            return float(y[np.argmax(good)])
    raise OutOfReachError


def _require_small_between(
    noise_multiplier: float, power: int, c: float, start: float, stop: float
) -> None:
    """Raise unless the power of the transform is proven to be small on ``Im s`` in the range.

    With phi the characteristic function of X tilted by ``exp(-c X)``, ``q = sqrt(1 - |phi|**2)`` is
    subadditive (Krein's inequality), and ``q(d)**2 <= min(d**2 Var X, 2 d E X)``: so every value
    of q keeps it large over a range.
    """
    at_zero = 1 + float(transform(np.array([complex(c)]), noise_multiplier, 1).plain[0].real)
    at_zero -= 1e-13
    needed = math.sqrt(-math.expm1(2 * _LOG_SMALL / power))
    spread = math.sqrt(math.expm1(noise_multiplier**-2) / at_zero)
    y = start
    while y < stop:
        size = _size(noise_multiplier, c, y) / at_zero
        spare = math.sqrt(max(0.0, 1 - size * size)) - needed
        if spare <= 1e-4 * needed:
            raise OutOfReachError
        y += 0.999 * max(spare / spread, spare * spare * at_zero / 2)


def _log1p(g: Complex, error: Array) -> Complex:
    """``log(1 + g)``, of ``error`` where ``1 + g`` is smaller than that.

    Near ``g = -1`` the square of ``|1 + g|`` would cancel; ``1 + x`` is exact there.
    """
    x, y = g.real, g.imag
    size = np.log(np.maximum(np.hypot(1 + x, y), np.maximum(error, 1e-300)))
    away = x > -0.5
    size[away] = np.log1p(x[away] * (2 + x[away]) + y[away] * y[away]) / 2
    log: Complex = size + 1j * np.arctan2(y, 1 + x)
    return log
