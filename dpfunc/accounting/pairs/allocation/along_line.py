"""The transform of a log-normal variable at many points of one line, interpolated, with its error.

The points are ``s = c (1 + i sinh v)`` for real v >= 0. In the strip ``|Im v| <= b < pi / 2`` the
argument of s is at most ``pi / 2 + b`` from 0 and ``|s| >= c (cosh(Re v) - sin b)``. So s has a
logarithm there, and ``p(s) = E[exp(-s X)] - 1`` is analytic in v: turning the line of integration
(`lognormal`) by b brings the real part of the exponent back to at least 0, and costs a factor of
``exp((sigma b)**2 / 2)``. With ``|exp(-z) - 1| <= min(2, |z|)`` for ``Re z >= 0`` and ``E[X] = 1``

    |p(s) / s| <= min(1, 2 / |s|) exp((sigma b)**2 / 2),

and under the weight X, which moves the mean of X to ``exp(sigma**-2)``, the same with that in the
place of 1. ``p(s) / s`` is interpolated in v, in pieces of one width, at N nodes of Chebyshev:
where it is at most M in the ellipse of sum of semi-axes rho (in units of half a piece) the
polynomial errs by ``4 M rho**(1 - N) / (rho - 1)`` at most, and an error of the values at the nodes
grows by ``1 + 2 / pi log N`` at most (Trefethen 2013, Approximation Theory and Approximation
Practice, theorems 8.2 and 15.2).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.allocation.lognormal import Complex, Transform, transform
from dpfunc.accounting.pairs.privacy_loss import ULP, Array

_HALF = 0.0625  # of a piece
_HEIGHTS = np.linspace(0.05, 1.5, 59)  # of strips: the best one counts
_FEWEST, _MOST = 8, 40  # nodes of a piece
_ENOUGH = 2.0**-56  # a polynomial errs by no more than this, relative, where that can be
_SHARE = 0.2  # of an argument: of few values all digits count, not the time they take
_WORTH = 8  # points for each node: fewer are summed in their own right


class _Pieces(NamedTuple):
    """Where the pieces are, how many nodes each has, and what a polynomial there errs by."""

    middle: Array  # [pieces]
    nodes: int
    plain: Array  # [pieces] error of ``p(s) / s``
    sized: Array  # [pieces] under the weight X


def transform_along(s: Complex, noise_multiplier: float, terms: int) -> Transform:
    """`transform` at points with one real part, and imaginary parts that increase from 0."""
    c = float(s.real[0])
    v = np.arcsinh(s.imag / c)
    pieces = _pieces(c, float(v[-1]), noise_multiplier)
    if len(pieces.middle) * pieces.nodes * _WORTH > len(s):
        return transform(s, noise_multiplier, terms)
    cosines = _cosines(np.ones(1, dtype=np.int64), pieces.nodes)[0]
    at_v = pieces.middle[:, None] + _HALF * cosines
    at = np.asarray(c + 1j * (c * np.sinh(at_v)), np.complex128)
    found = transform(at.ravel(), noise_multiplier, terms, _SHARE)
    piece = np.minimum((v / (2 * _HALF)).astype(np.int64), len(pieces.middle) - 1)
    x = np.clip((v - pieces.middle[piece]) / _HALF, -1.0, 1.0)

    def along(value: Complex, error: Array, missed: Array) -> tuple[Complex, Array]:
        over, error_over = value.reshape(at.shape) / at, error.reshape(at.shape) / np.abs(at)
        interpolated, off = _interpolated(over, error_over.max(axis=1), missed, at_v, piece, x)
        return np.asarray(s * interpolated), np.asarray(np.abs(s) * off[piece] * (1 + 1e-12))

    plain, error = along(found.plain, found.error, pieces.plain)
    sized, sized_error = along(found.sized, found.sized_error, pieces.sized)
    return Transform(plain, sized, error, sized_error)


def _pieces(c: float, last: float, noise_multiplier: float) -> _Pieces:
    """As few nodes as make the error of every polynomial as small as rounding."""
    count = max(1, math.ceil(last / (2 * _HALF)))
    middle = np.asarray(_HALF * (2 * np.arange(count) + 1), np.float64)
    ratio = _HEIGHTS / _HALF
    rho = ratio + np.sqrt(1 + ratio * ratio)
    low = np.maximum(0.0, middle[:, None] - _HALF * (rho + 1 / rho) / 2)
    by_size = 2 / (c * (np.cosh(low) - np.sin(_HEIGHTS)))
    with np.errstate(over="ignore"):  # of much noise a high strip bounds nothing
        turned = np.exp((noise_multiplier * _HEIGHTS) ** 2 / 2) * 4 / (rho - 1)
    mean = math.exp(min(700.0, noise_multiplier**-2))
    usual = np.minimum(1.0, 2 / (c * np.cosh(middle)))
    for nodes in range(_FEWEST, _MOST + 1):
        each = turned * rho ** (1.0 - nodes)
        plain = (np.minimum(1.0, by_size) * each).min(axis=1)
        if nodes == _MOST or np.all(plain <= _ENOUGH * usual):
            break
    return _Pieces(middle, nodes, plain, (np.minimum(mean, by_size) * each).min(axis=1))


def _cosines(orders: NDArray[np.int64], nodes: int) -> Array:
    """``[k, j]``: the polynomial of Chebyshev of that order at node j."""
    turns = np.multiply.outer(orders, 2 * np.arange(nodes) + 1)
    around_0 = (turns + 2 * nodes) % (4 * nodes) - 2 * nodes
    return np.asarray(np.cos(around_0 * (math.pi / (2 * nodes))))


def _interpolated(
    value: Complex, error: Array, missed: Array, at: Array, piece: Array, x: Array
) -> tuple[Complex, Array]:
    """The interpolated values at x of each piece, and what those of a piece err by at most.

    ``value``: [pieces, N], known to ``error``, at v = ``at``. What a piece has in common is taken
    off first, so that coefficients are rounded by what the values differ by. In units of ULP: a
    coefficient, twice the mean of N differences times cosines that are good to 4, errs by
    ``3 (N / 2 + 4)`` times the mean size, both parts together; the k-th polynomial, from the two
    before it, by ``(k + 1)**2``; adding up to what was taken off costs ``N / 2``, a product with s
    a few; a value at a node, which was divided by s, is off by 4. A v is off by ``4 + 2 v``, and
    the slope makes of this what the value is off by.
    """
    nodes = value.shape[1]
    shared = value[:, nodes // 2]
    differences = value - shared[:, None]
    orders = np.arange(nodes, dtype=np.int64)
    coefficients = (differences @ _cosines(orders, nodes).T) * (2 / nodes)
    coefficients[:, 0] /= 2
    sizes, most = np.abs(coefficients), np.abs(value).max(axis=1)
    apart = np.abs(differences).mean(axis=1)
    rough = 2 * nodes**3 * (error + missed) / _HALF  # what errors may hide of the slope
    slope = sizes @ orders**2 / _HALF + rough
    moved = slope * ULP * (4 + 2 * at.max(axis=1))
    grown = 1 + 2 / math.pi * math.log(nodes)
    rounded = 3 * nodes * (nodes / 2 + 4) * apart + sizes @ (nodes + (orders + 1) ** 2)
    rounded += (nodes / 2 + 6) * most
    off = missed + grown * (error + 4 * ULP * most + moved) + moved + ULP * rounded
    found, before, here = shared[piece], np.ones(len(x)), x
    found += coefficients[piece, 0]
    for order in orders[1:]:
        found += coefficients[piece, order] * here
        before, here = here, 2 * x * here - before
    return np.asarray(found), np.asarray(off)
