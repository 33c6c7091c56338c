"""A private quantile: the exponential mechanism on a public grid, drawn exactly."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, plain, require
from dpfunc.random.exact import LazyUniform, exact_floor
from dpfunc.random.keys import Key, bits, fold_in


def quantile(x: Tensor, q: float, *, grid: Sequence[float], epsilon: float, key: Key) -> float:
    """A point g of ``grid`` with about ``q n`` of the numbers ``x [n]`` below it.

    ``P[g]`` is in proportion to ``exp(-epsilon |#{x < g} - q n| / 2)``: the exponential mechanism
    (McSherry and Talwar 2007; quantiles: Smith 2011). A record that comes or goes moves ``#{x < g}
    - q n`` by 1 at most.

    Guarantee: the event ``accounting.ExponentialMechanism(epsilon)`` under adding or removing one
    record: a loss of bounded range, which is epsilon-DP, and composes better. The draw is exact:
    the q of a float is a fraction, so that utilities are whole numbers over its denominator, and
    probabilities are compared in interval arithmetic with a uniform number of as many bits as it
    takes. One key is for one query. The grid is public: it must not be read off the data. NaN
    counts as absent.

    >>> import torch, dpfunc as dp
    >>> x = torch.arange(10_000) / 100
    >>> quantile(x, 0.5, grid=range(0, 100, 10), epsilon=1.0, key=dp.key())
    50.0
    """
    share, strength = plain(q), plain(epsilon)
    require(is_real(share) and 0 <= share <= 1, "queries.quantile", "0 <= q <= 1", q, "use 0.5")
    require(
        is_real(strength) and 0 <= strength < math.inf,
        "queries.quantile",
        "a finite epsilon >= 0",
        epsilon,
        "pass what the quantile may cost",
    )
    require(
        isinstance(x, Tensor) and x.ndim == 1 and not x.is_complex(),
        "queries.quantile",
        "numbers x, [n]",
        type(x).__name__,
        "pass a tensor, one number for each record",
        error=TypeError,
    )
    points = [float(plain(g)) for g in grid]
    require(
        len(points) > 0 and all(map(math.isfinite, points)),
        "queries.quantile",
        "finite points in the grid",
        points[:3],
        "pass public values",
    )
    off = _distances(x, Fraction(share), points)
    own = fold_in(key, "quantile")
    uniform = LazyUniform(bits(own, 1).tolist()[0] % 2**64, 64, fold_in(own, "further bits"))

    def place(context: Any, u: Any) -> Any:
        return _place(context, u, off, strength)

    return points[exact_floor(place, uniform)]


def _distances(x: Tensor, share: Fraction, points: Sequence[float]) -> list[Fraction]:
    """``|#{x < g} - q n|`` of each point, exactly; numbers are compared in float64."""
    numbers = x.double()
    numbers = numbers[~numbers.isnan()]
    below = torch.searchsorted(
        numbers.sort().values, torch.tensor(points, dtype=torch.float64), right=False
    )
    return [abs(c - share * len(numbers)) for c in below.tolist()]


def _place(context: Any, u: Any, off: Sequence[Fraction], epsilon: float) -> Any:
    """An interval that holds the first place whose cumulated probability is above ``u``."""
    least = min(off)
    half = context.mpf(epsilon) / 2
    weights = [
        context.exp(-half * context.mpf((d - least).numerator) / (d - least).denominator)
        for d in off
    ]
    threshold = u * sum(weights, context.mpf(0))
    upto, first = context.mpf(0), None
    for i, weight in enumerate(weights):
        upto = upto + weight
        if first is None and upto.b > threshold.a:
            first = i
        if upto.a > threshold.b:
            return context.mpf([first, i])
    return context.mpf([len(off) - 1 if first is None else first, len(off) - 1])
