"""What is rare, apart: releases nearly all of which tell next to nothing.

Where a record is hardly ever read, the law of one loss has a bulk close to 0, and little else. Let
s be the transform of the bulk, all losses up to some place, and b that of the rest. A sum of T
losses then either has a loss of the rest in it, or it is at most T times that place. Where epsilon
is not below that, the sums of the bulk alone add nothing to delta. So they are left out:

    (s + b)**T - s**T = s**T (exp(T log(1 + b / s)) - 1)

It is the transform of a law of positive masses, and every error of it is relative to b. That of the
whole power is relative to 1, of which a delta of 1e-11 would have to be the difference.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.engines.lattice.circle import Tilted, transformed
from dpfunc.accounting.engines.lattice.kernel import Complex
from dpfunc.accounting.engines.lattice.powers import exp, log1p
from dpfunc.accounting.pairs.privacy_loss import ULP, Array

_MOST_BESIDE = 0.25  # of a law that may not be at its heaviest place
_MOST_RARE = 0.02  # of a law that may be rare
_MOST_IN_ALL = 4.0  # of rare losses expected in all releases


class Rare(NamedTuple):
    """The composition once over; every field is multiplied by the times."""

    top: int  # index of the largest sum of bulk losses
    log_bulk: Complex  # [n // 2 + 1] log s
    log_bulk_size: Array  # [n // 2 + 1] a bound on its real part
    bulk_error: Array  # [n // 2 + 1] absolute, of log s
    log_grown: Complex  # [n // 2 + 1] log(1 + b / s)
    log_grown_size: Array  # [n // 2 + 1] a bound on its size
    grown_error: Array  # [n // 2 + 1] absolute


def rare(laws: Sequence[tuple[int, Tilted, float]], n: int, most: int) -> Rare | None:
    """The transforms of all releases; None where what is beside the bulk is not rare.

    ``laws``: how often each is released, its law, and the largest place on the lattice that its
    bulk may have. The composition is released up to ``most`` times over.
    """
    each = [(times, law, law.indices <= end) for times, law, end in laws]
    if not all(_is_split(law, bulk) for _, law, bulk in each):
        return None
    if most * sum(times * law.mass[~bulk].sum() for times, law, bulk in each) > _MOST_IN_ALL:
        return None
    nothing, none = np.zeros(n // 2 + 1), np.zeros(n // 2 + 1, dtype=np.complex128)
    total = Rare(0, none, nothing, nothing, none, nothing, nothing)
    for times, law, bulk in each:
        total = _with(total, times, law, bulk, n)
    return total


def _is_split(law: Tilted, bulk: NDArray[np.bool_]) -> bool:
    beside = law.places != 0
    if not bulk[~beside].any() or bulk.all():
        return False
    rest = float(law.mass[~bulk].sum())
    return float(law.mass[beside].sum()) <= _MOST_BESIDE and 0 < rest <= _MOST_RARE


def _with(total: Rare, times: int, law: Tilted, bulk: NDArray[np.bool_], n: int) -> Rare:
    """One more release of the composition, ``times``.

    The masses sum to 1, so that the heaviest has what all others leave; it is the larger part, and
    errs no more than they do. As it is 1 less at most ``_MOST_BESIDE``, s is at least 1 less twice
    that.
    """
    beside = bulk & (law.places != 0)
    little, most = float(law.mass[beside].sum()), float(law.mass[~bulk].sum())
    circle = np.zeros(n)
    np.add.at(circle, law.places[beside], law.mass[beside])
    circle[0] -= little + most
    s_less_1, s_error = transformed(circle)
    s_error += ULP * ((4 + math.log2(len(law.mass))) * (little + most) + 2)
    rest = np.zeros(n)
    np.add.at(rest, law.places[~bulk], law.mass[~bulk])
    b, b_error = transformed(rest)
    # Errors of quotients and logarithms: with computed b and s, |b / s| is small and |s| is large.
    s = 1 + s_less_1
    least = np.abs(s) - s_error
    ratio = b / s
    size = (np.abs(b) + b_error) / least
    ratio_error = (b_error + size * s_error) / np.abs(s) + 16 * ULP * size
    log_s = np.log(np.abs(s)) + 1j * np.angle(s)
    s_rounding = 2 * s_error / least + ULP * (8 + 4 * np.abs(log_s))
    log_grown = log1p(ratio)
    return Rare(
        top=total.top + times * int(law.indices[bulk].max()),
        log_bulk=total.log_bulk + times * log_s,
        log_bulk_size=total.log_bulk_size + times * (log_s.real + s_rounding),
        bulk_error=total.bulk_error + times * s_rounding,
        log_grown=total.log_grown + times * log_grown,
        log_grown_size=total.log_grown_size + times * -np.log1p(-size - 2 * ratio_error),
        grown_error=total.grown_error + times * (1.2 * ratio_error + 16 * ULP * size),
    )


def powers(of: Rare, times: Array, kept: int) -> Complex:
    """``(s + b)**T - s**T`` for every T, at the first frequencies."""
    bulk = np.multiply.outer(times, of.log_bulk[:kept])
    grown = np.multiply.outer(times, of.log_grown[:kept])
    return np.asarray(exp(bulk.real, bulk.imag) * _expm1(grown))


def sizes(of: Rare, fewest: float, most: float) -> Array:
    """A bound on its size, at every frequency."""
    bulk = np.exp(np.maximum(fewest * of.log_bulk_size, most * of.log_bulk_size))
    return np.asarray(bulk * np.expm1(most * of.log_grown_size))


def errors(of: Rare, fewest: float, most: float) -> Array:
    """A bound on its error, at every frequency: of both factors, and of their computation."""
    bulk = np.exp(np.maximum(fewest * of.log_bulk_size, most * of.log_bulk_size))
    grown = most * of.log_grown_size
    of_bulk = np.expm1(most * of.bulk_error) + ULP * (16 + 4 * most * np.abs(of.log_bulk))
    of_grown = np.exp(grown) * (np.expm1(most * of.grown_error) + 32 * ULP * np.expm1(grown))
    return np.asarray(bulk * (1 + of_bulk) * (of_bulk * np.expm1(grown) + of_grown))


def _expm1(z: Complex) -> Complex:
    """``exp(z) - 1``, to a few ulp of z where z is small."""
    half, size = np.sin(z.imag / 2), np.exp(z.real)
    return np.asarray(np.expm1(z.real) - 2 * size * half * half + 1j * (size * np.sin(z.imag)))
