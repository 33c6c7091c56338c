"""The best banded Toeplitz strategy for a workload: L-BFGS on its coefficients.

The error of C = T(c) on a Toeplitz workload T(a) is a weighted sum of ``b_t**2``, ``b = a / c``,
and with at most ``min_separation`` bands k participations cost ``k ||c||**2``: one optimum serves
every k. So ``log(sum_t w_t b_t**2) + log(||c||**2)`` is minimised over c with ``c_0 = 1`` (McKenna
2024, arXiv:2405.15913, section 4). With ``e = b / c`` the first term has the derivative
``-2 sum_{t >= j} w_t b_t e_{t-j}`` by ``c_j``, over the sum.
"""

from typing import Any, Literal

import numpy as np
import scipy

from dpfunc.strategies.series import Floats, power_of_one_minus_x, quotient

Error = Literal["mean", "max"]


def banded_optimum(workload: Floats, bands: int, error: Error) -> Floats:
    """The coefficients c, ``[bands]``, ``c_0 = 1``, as they come out of the search."""
    start = power_of_one_minus_x(-0.5, bands)
    if bands == 1:
        return start
    weights = query_weights(len(workload), error)
    options: Any = {"maxiter": 3000, "maxfun": 6000, "maxcor": 30, "ftol": 1e-14, "gtol": 1e-9}

    def cost(tail: Floats) -> tuple[float, Floats]:
        return objective(np.concatenate([[1.0], tail]), workload, weights)

    found = scipy.optimize.minimize(cost, start[1:], jac=True, method="L-BFGS-B", options=options)
    return np.concatenate([[1.0], found.x])


def objective(c: Floats, workload: Floats, weights: Floats) -> tuple[float, Floats]:
    """``log(error) + log(||c||**2)``, and its derivatives by ``c_1, c_2, ...``."""
    with np.errstate(over="ignore", invalid="ignore"):
        b = quotient(workload, c)
        error = float(np.sum(weights * b**2))
        if not np.isfinite(error):  # the noise would grow without end
            return np.inf, np.zeros(len(c) - 1)
        e = quotient(b, c)
        whole = scipy.signal.correlate(weights * b, e, mode="full", method="auto")
        by_c = whole[len(b) - 1 :][: len(c)]
    square = float(np.sum(c**2))
    slope = -2 * by_c / error + 2 * c / square
    return float(np.log(error) + np.log(square)), slope[1:]


def query_weights(steps: int, error: Error) -> Floats:
    """How much ``b_t**2`` counts: in the mean over all queries, or in the last, the largest."""
    return np.ones(steps) if error == "max" else np.arange(steps, 0, -1) / steps
