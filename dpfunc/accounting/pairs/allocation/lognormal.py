"""The Laplace transform of a log-normal variable of mean 1, at complex arguments, with its error.

``X = exp(u)``, ``u ~ N(-1 / (2 sigma**2), 1 / sigma**2)``. In ``E[exp(-s X)] - 1`` the integrand is
an entire function of u, so the line of integration may turn s away from the imaginary axis, where
it would oscillate: at ``u + i y`` the argument of the exponential is ``s exp(i y) X``. With
``y = -share * arg(s)`` its real part stays positive for another ``share * pi / 2`` to either side,
where the integrand is at most 2 Gaussians high. So the trapezoid rule errs by a known, tiny amount
(Trefethen and Weideman 2014, "The exponentially convergent trapezoidal rule", theorem 5.1).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from dpfunc.accounting.pairs.privacy_loss import ULP, Array

Complex = NDArray[np.complex128]

_LOG_ACCURACY = 50.0  # the quadrature errs by about exp of minus this, less log of the terms
_FAR = 12.0  # standard deviations of u that are integrated over: beyond lies 1e-32
_ROUNDING = 24 * ULP  # of a term, relative to its size: a dozen operations, exponents of a few
_CHUNK = 40_000  # terms at a time
_LOG_NOTHING = -60.0  # of an exponential, next to 1


class Transform(NamedTuple):
    """Both transforms at some s, less 1, and bounds on their absolute errors."""

    plain: Complex  # E[exp(-s X)] - 1
    sized: Complex  # E[X exp(-s X)] - 1
    error: Array  # of ``plain``
    sized_error: Array


def transform(
    s: Complex, noise_multiplier: float, terms: int, most_share: float = 0.5
) -> Transform:
    """``s`` with positive real parts; ``terms`` is how many such factors will be multiplied.

    ``most_share`` of ``arg(s)`` by which the line turns: less is slower, and rounded less.
    """
    sigma = noise_multiplier
    share = min(most_share, 2 * most_share / sigma)
    turn = -share * np.angle(s)
    half_width = share * math.pi / 2
    exponent = _LOG_ACCURACY + math.log(terms)
    step = 2 * math.pi * half_width / exponent
    # Around the mean of u; weighting with X moves the bulk up by 1 / sigma**2.
    below, above = math.ceil(_FAR / sigma / step), math.ceil((_FAR / sigma + sigma**-2) / step)
    u = np.arange(-below, above + 1) * step
    plain, sized = np.empty(len(s), np.complex128), np.empty(len(s), np.complex128)
    x, height = np.exp(u - 0.5 / sigma**2), np.exp(-(sigma**2) / 2 * u * u)
    rise = np.asarray(sigma**2 * u, dtype=np.float64)
    for rows in np.array_split(np.arange(len(s)), max(1, len(s) * len(u) // _CHUNK)):
        values = _less_one(s[rows], turn[rows], x)
        values *= _turned(height, rise, turn[rows])
        plain[rows] = values.sum(axis=1)
        sized[rows] = (values * x).sum(axis=1)
    higher = np.exp((sigma * turn) ** 2 / 2)  # of the Gaussian, on the line
    plain, sized = plain * higher, sized * higher * np.exp(1j * turn)
    scale = step * sigma / math.sqrt(2 * math.pi)
    # On the line |exp(-z) - 1| <= min(2, |z|), and an error of z itself counts |z| exp(-Re z).
    size, most = np.abs(s), 2 + 1 / share
    growth = _ROUNDING * higher
    quadrature = 4 * math.exp((sigma * 2 * half_width) ** 2 / 2) / math.expm1(exponent)
    error = quadrature + growth * np.minimum(most, size)
    sized_error = quadrature + growth * np.minimum(most, size * math.exp(min(700.0, sigma**-2)))
    return Transform(scale * plain, scale * sized, error, sized_error)


def _less_one(s: Complex, turn: Array, x: Array) -> Complex:
    """``exp(-s exp(i turn) x) - 1``: the real part of the exponent is negative.

    So both terms of ``expm1(a) - 2 exp(a) sin(b / 2)**2`` are, and nothing cancels.
    """
    size, angle = np.abs(s), np.angle(s) + turn
    a = np.multiply.outer(-size * np.cos(angle), x)
    half = np.multiply.outer(-size * np.sin(angle) / 2, x)
    half[a < _LOG_NOTHING] = 0.0
    less_one = np.expm1(np.maximum(a, _LOG_NOTHING))
    sine, twice = np.sin(half), 2 * (1 + less_one)
    found = np.empty(a.shape, np.complex128)
    found.real = less_one - twice * sine * sine
    found.imag = twice * sine * np.cos(half)
    return found


def _turned(height: Array, rise: Array, turn: Array) -> Complex:
    """``height exp(-i turn rise)``."""
    angle = np.multiply.outer(turn, rise)
    found = np.empty(angle.shape, np.complex128)
    found.real, found.imag = height * np.cos(angle), -height * np.sin(angle)
    return found


def log_transform(s: Array, noise_multiplier: float) -> Array:
    """``log E[exp(-s X)]`` for real s > 0, to about 1e-13: a sum of positive terms."""
    u = np.linspace(-_FAR, _FAR, 2001) / noise_multiplier
    weights = -((u * noise_multiplier) ** 2) / 2
    weights -= logsumexp(weights)
    x = np.exp(np.minimum(u - 0.5 / noise_multiplier**2, 700.0))
    return np.asarray(logsumexp(weights - np.multiply.outer(s, x), axis=1))
