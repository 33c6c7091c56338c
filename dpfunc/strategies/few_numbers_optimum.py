"""The best of strategies that have one number, or a few: fractional powers, and buffers.

What is minimised is ``error * sensitivity**2`` under the participation that is asked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from dpfunc.strategies.banded_optimum import Error, query_weights
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.records import Buffered, InverseToeplitz, Toeplitz
from dpfunc.strategies.sensitivity import sensitivity
from dpfunc.strategies.series import Floats, power_of_one_minus_x, product, quotient

_LEAST_GAIN = 5e-4  # of the error: what another buffer has to be worth


def fractional_optimum(
    steps: int, bands: int, participation: Participation, workload: Floats, error: Error
) -> float:
    """The best exponent of ``(1 - x)**exponent``, cut to ``bands`` coefficients."""

    def cost(exponent: float) -> float:
        d = power_of_one_minus_x(float(exponent), bands)
        strategy = InverseToeplitz(steps, tuple(d.tolist()))
        return cost_of(strategy, product(d, workload), participation, error)

    # One valley in all that was tried; the grid makes sure that it is the deepest.
    grid = np.linspace(0.02, 0.98, 25)
    best = int(np.argmin([cost(exponent) for exponent in grid]))
    low, high = (grid[max(best - 1, 0)], grid[min(best + 1, 24)])
    ends = (1e-3 if best == 0 else float(low), 1 - 1e-4 if best == 24 else float(high))
    found = scipy.optimize.minimize_scalar(
        cost, bounds=ends, method="bounded", options={"xatol": 1e-7}
    )
    return float(found.x)


def buffered_optimum(
    steps: int, buffers: int, participation: Participation, workload: Floats, error: Error
) -> Buffered:
    """The best decays and weights: at most ``buffers`` of them, as many as are worth it."""
    best, least = None, np.inf
    for count in range(1, buffers + 1):
        found, cost = _with_buffers(steps, count, participation, workload, error, best)
        if best is not None and cost > least * (1 - _LEAST_GAIN) ** 2:
            break
        best, least = found, cost
    return best  # type: ignore[return-value]  # there is one buffer at least


def _with_buffers(
    steps: int,
    count: int,
    participation: Participation,
    workload: Floats,
    error: Error,
    fewer: Buffered | None,
) -> tuple[Buffered, float]:
    def unpacked(x: Floats) -> tuple[Floats, Floats]:
        return np.exp(-np.exp(x[:count])), np.exp(x[count:])

    def cost(x: Floats) -> float:
        with np.errstate(over="ignore", under="ignore"):
            decays, weights = unpacked(x)
        if not (np.all((decays > 0) & (decays < 1) & (weights > 0)) and weights.sum() <= 1):
            return np.inf
        strategy = Buffered(steps, tuple(decays.tolist()), tuple(weights.tolist()))
        numerator, denominator = as_fraction(decays, weights)
        b = quotient(product(denominator, workload), numerator)
        return cost_of(strategy, b, participation, error)

    slowest = np.geomspace(min(4 / steps, 0.4), 0.5, count)
    shares = 0.5 * slowest ** (1 / 3) / np.sum(slowest ** (1 / 3))
    starts = [(1 - slowest, np.full(count, 0.5 / count)), (1 - slowest, shares)]
    if fewer is not None:  # and what was found, with one more that decays slowly
        weights = np.array([*fewer.weights, 0.05]) / (1 + 0.05)
        starts.append((np.array([*fewer.decays, 1 - 0.05 / steps]), weights))
    packed = [np.concatenate([np.log(-np.log(d)), np.log(w)]) for d, w in starts]
    x, value = min((_descend(cost, x) for x in packed), key=lambda pair: pair[1])
    decays, weights = unpacked(x)
    return Buffered(steps, tuple(decays.tolist()), tuple(weights.tolist())), value


def _descend(cost: Callable[[Floats], float], x: Floats) -> tuple[Floats, float]:
    """Nelder and Mead, begun again where it stopped until that gains nothing."""
    value = cost(x)
    for _ in range(8):
        options: Any = {"maxiter": 600 * len(x), "xatol": 1e-6, "fatol": 1e-9, "adaptive": True}
        found = scipy.optimize.minimize(cost, x, method="Nelder-Mead", options=options)
        if found.fun >= value * (1 - 1e-6):
            break
        x, value = found.x, float(found.fun)
    return x, value


def as_fraction(decays: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """``c = numerator / denominator`` as polynomials: short, where c itself has all steps.

    ``c = 1 + sum_j weights_j x / (1 - decays_j x)``.
    """
    denominator = np.ones(1)
    for theta in decays:
        denominator = np.convolve(denominator, [1.0, -theta])
    numerator = denominator.copy()
    for j, omega in enumerate(weights):
        rest = np.ones(1)
        for i, theta in enumerate(decays):
            if i != j:
                rest = np.convolve(rest, [1.0, -theta])
        numerator += omega * np.convolve([0.0, 1.0], rest)
    return numerator, denominator


def cost_of(
    strategy: InverseToeplitz | Buffered | Toeplitz,
    b: Floats,
    participation: Participation,
    error: Error,
) -> float:
    """``error * sensitivity**2``, from the first column b of ``A C^-1``."""
    weights = query_weights(strategy.steps, error)
    with np.errstate(over="ignore"):
        return float(np.sum(weights * b**2)) * sensitivity(strategy, participation) ** 2
