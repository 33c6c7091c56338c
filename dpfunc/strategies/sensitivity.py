"""The sensitivity of ``C S``: how far one record can move what the noise is added to. Certified.

A record is in the steps of a pattern ``pi`` (`Participation`), and moves the sum of each by a
vector ``g_t`` of norm at most 1. With ``X = C^T C``,

    sens^2 = max over pi, g of || sum_{t in pi} C[:, t] g_t^T ||_F^2
          <= max over pi of sum_{s, t in pi} |X[s, t]|,

with equality where no entry of X is negative (all g alike). Three ways to bound the right side:

- **disjoint columns**: with at most ``min_separation`` bands the columns of a pattern share no row,
  so that it is the largest sum of their squared norms, whatever the signs (arXiv:2306.08153,
  section 4): exact;
- **Toeplitz**: with ``c_i`` replaced by the largest ``|c_j|``, j >= i, the earliest and closest
  pattern is the worst (Kalinin and Lampert 2024, arXiv:2405.13763, theorem 2): exact where c does
  not increase and has no negative entry;
- **any**: row by row, the worst pattern for ``|X[t, :]|``, then the worst pattern of these.

What is returned is above the result in real numbers: see `certified`.
"""

import math

import numpy as np

from dpfunc.checks import require
from dpfunc.strategies.participation import ONCE, Participation
from dpfunc.strategies.records import (
    Buffered,
    Dense,
    InverseToeplitz,
    Strategy,
    Toeplitz,
    matrix,
    require_strategy,
)
from dpfunc.strategies.series import Floats

_LEAST_SQUARE = 1e-280  # beside it what products below 1e-308 lose is nothing


def sensitivity(strategy: Strategy, participation: Participation) -> float:
    """How far in L2 norm a record can move ``C S``, for sums that it moves by 1 at each step.

    Guarantee: never below the largest over all patterns that ``participation`` allows. Exact, to
    rounding, for banded strategies with ``bands <= min_separation``, and where C has no negative
    entry and its columns do not increase; else an upper bound.

    TypeError for what is not a strategy or a participation; ValueError where squares leave the
    range of float64.

    >>> from dpfunc.strategies.records import Toeplitz
    >>> round(sensitivity(Toeplitz(4, (1.0, 0.5)), Participation(most=2, min_separation=2)) ** 2, 9)
    2.5
    """
    require_strategy("sensitivity", strategy)
    require(
        isinstance(participation, Participation),
        "sensitivity",
        "a Participation",
        type(participation).__name__,
        "pass dpfunc.correlated.Participation(most=..., min_separation=...)",
        error=TypeError,
    )
    with np.errstate(over="ignore", invalid="ignore"):  # `certified` refuses what comes of it
        if isinstance(strategy, Dense):
            square = of_matrix(matrix(strategy), strategy.bands, participation)
        else:
            square = _of_column(strategy.column(), strategy.bands, participation)
    return certified(square, strategy)


def column_norm(strategy: Strategy) -> float:
    """The sensitivity for one participation, certified: the largest norm of a column of C.

    >>> from dpfunc.strategies.records import Toeplitz
    >>> round(column_norm(Toeplitz(4, (1.0, 0.5))) ** 2, 9)
    1.25
    """
    return sensitivity(strategy, ONCE)


def certified(square: float, strategy: Strategy) -> float:
    """The root of ``square`` with all float errors added to it.

    All sums here are of numbers that are not negative, so errors are relative. With u = 2**-53, n
    steps, p coefficients: an entry of C is off by ``n (p + 1) u`` of itself at most (`records`), a
    sum over a pattern by n u more; squared, twice that; the sum of n squares ``(n + 1) u``. In all
    at most ``(2 n (p + 1) + 3 n + 2) u``, below ``(5 n (p + 1) + 4) u``; 1e-12 is for terms of
    second order and the operations of this function. (`of_matrix` has its own errors, by
    cancellation, and adds them itself.)

    ValueError where squares leave the range of float64: they vanish there, or are infinite.
    """
    require(
        _LEAST_SQUARE <= square < math.inf,
        "sensitivity",
        f"a strategy whose squares are finite and at least {_LEAST_SQUARE:g}",
        square,
        "scale the strategy so that its largest entry is near 1",
    )
    match strategy:
        case InverseToeplitz(_, numbers) | Buffered(_, numbers, _):
            count = len(numbers)
        case Toeplitz() | Dense():  # C as it stands
            count = 0
    error = (5 * strategy.steps * (count + 1) + 4) * 2.0**-53
    return math.sqrt(square * (1 + 1e-12 + error)) * (1 + 2.0**-51)


def _of_column(column: Floats, bands: int | None, participation: Participation) -> float:
    """Of a Toeplitz matrix: the smaller of two upper bounds."""
    steps, apart = len(column), participation.min_separation
    starts = [apart * j for j in range(participation.times(steps))]
    falling = np.maximum.accumulate(np.abs(column)[::-1])[::-1]
    total = np.zeros(steps)
    for start in starts:
        total[start:] += falling[: steps - start]
    square = float(np.sum(total**2))
    if bands is not None and bands <= apart:
        norms = np.cumsum(column**2)  # of the columns with so many rows left, one or more
        disjoint = float(np.sum(norms[[steps - 1 - start for start in starts]]))
        square = min(square, disjoint)
    return square


def of_matrix(c: Floats, bands: int, participation: Participation) -> float:
    """The square for any matrix ``[rows, steps]``; ``bands`` at least those that it has."""
    steps = c.shape[1]
    if bands <= participation.min_separation and not participation.evenly_spaced:
        return float(_worst((c**2).sum(axis=0)[None], participation)[0])
    size = np.abs(c)
    x = np.abs(c.T @ c) + (len(c) + 2) * 2.0**-52 * (size.T @ size)  # products that cancel
    if participation.evenly_spaced:
        apart, most = participation.min_separation, participation.most
        patterns = [np.arange(i, steps, apart)[:most] for i in range(steps)]
        return max(float(x[np.ix_(p, p)].sum()) for p in patterns)
    rows = _worst(x, participation)
    return float(_worst(rows[None], participation)[0])


def _worst(weights: Floats, participation: Participation) -> Floats:
    """The largest sum of weights over a pattern, for each row of ``weights`` ``[rows, steps]``.

    ``best[k][i]``: over patterns of at most k steps from step i on.
    """
    rows, steps = weights.shape
    apart = min(participation.min_separation, steps)  # farther apart is alone, too
    best = np.zeros((rows, steps + apart))
    for _ in range(participation.times(steps)):
        more = np.zeros((rows, steps + apart))
        for i in range(steps - 1, -1, -1):
            more[:, i] = np.maximum(weights[:, i] + best[:, i + apart], more[:, i + 1])
        best = more
    result: Floats = best[:, 0]
    return result
