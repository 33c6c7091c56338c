"""What an optimiser makes of the released sums: workloads, and the noise that is left in them.

A workload A has a row for each quantity that is wanted, an entry for each step: ``A S``. It never
enters the privacy of a release. A Toeplitz workload is given by its first column.
"""

import math

import numpy as np
import scipy

from dpfunc.checks import is_count, is_real, require
from dpfunc.strategies.records import (
    Dense,
    InverseToeplitz,
    Strategy,
    matrix,
    require_strategy,
)
from dpfunc.strategies.series import Floats, product, quotient


def prefix_sums(steps: int) -> Floats:
    """The iterates of SGD with a constant rate: sums over all steps so far. ``[steps]`` of ones.

    >>> prefix_sums(3).tolist()
    [1.0, 1.0, 1.0]
    """
    _require_steps("prefix_sums", steps)
    return np.ones(steps)


def momentum(steps: int, *, beta: float, decay: float = 1.0) -> Floats:
    """The iterates of SGD with momentum ``beta``, and weights that shrink by ``decay`` a step.

    ``[steps]``, the coefficients of ``1 / ((1 - beta x) (1 - decay x))``: without decay
    ``(1 - beta**(j + 1)) / (1 - beta)``. With weight decay w at rate r, ``decay = 1 - r w``.

    >>> momentum(3, beta=0.5).tolist()
    [1.0, 1.5, 1.75]
    """
    _require_steps("momentum", steps)
    for name, value in (("beta", beta), ("decay", decay)):
        require(
            is_real(value) and 0 <= value <= 1 and (name == "decay" or value < 1),
            "momentum",
            "0 <= beta < 1 and 0 <= decay <= 1",
            f"{name}={value}",
            "pass the momentum of the optimiser, and 1 - rate * weight_decay",
        )
    impulse = np.zeros(steps)
    impulse[0] = 1.0
    return quotient(quotient(impulse, np.array([1.0, -beta])), np.array([1.0, -decay]))


def schedule(rates: Floats) -> Floats:
    """The iterates of SGD whose rate at step s is ``rates[s]``: ``A[t, s] = rates[s]``, s <= t.

    ``[steps, steps]``: not Toeplitz.

    >>> schedule(np.array([1.0, 0.5])).tolist()
    [[1.0, 0.0], [1.0, 0.5]]
    """
    values = np.asarray(rates, dtype=np.float64)
    require(
        values.ndim == 1 and len(values) > 0 and bool(np.isfinite(values).all()),
        "schedule",
        "finite rates, one for each step",
        rates,
        "pass a list of numbers",
    )
    return np.tril(np.broadcast_to(values, (len(values), len(values))))


def errors(strategy: Strategy, workload: Floats | None = None) -> Floats:
    """The squared error of each query, for noise Z of deviation 1: ``||(A C^-1)[t, :]||**2``.

    ``workload``: ``[steps]``, the first column of a Toeplitz matrix; ``[queries, steps]``, any
    matrix; or None for prefix sums. With noise multiplier s and clipping norm 1 the variance of
    query t in each coordinate is ``(s * column_norm(strategy))**2 * errors[t]``.

    ValueError for a workload of another number of steps.

    >>> from dpfunc.strategies.records import Toeplitz
    >>> errors(Toeplitz(3, (1.0, 0.5))).tolist()
    [1.0, 1.25, 1.8125]
    """
    require_strategy("errors", strategy)
    a = prefix_sums(strategy.steps) if workload is None else np.asarray(workload, np.float64)
    require(
        a.ndim in (1, 2) and a.shape[-1] == strategy.steps,
        "errors",
        f"a workload of {strategy.steps} steps, [steps] or [queries, steps]",
        a.shape,
        "make it with dpfunc.correlated.prefix_sums, momentum or schedule for these steps",
    )
    if a.ndim == 1 and not isinstance(strategy, Dense):
        if isinstance(strategy, InverseToeplitz):
            b = product(np.array(strategy.coefficients), a)
        else:
            b = quotient(a, strategy.column())
        return np.cumsum(b**2)
    if a.ndim == 1:
        a = np.array([np.concatenate([a[t::-1], np.zeros(len(a) - 1 - t)]) for t in range(len(a))])
    rows = scipy.linalg.solve_triangular(matrix(strategy), a.T, trans="T", lower=True)
    return np.asarray((rows**2).sum(axis=0), np.float64)


def _require_steps(subject: str, steps: int) -> None:
    require(
        is_count(steps) and steps >= 1, subject, "an int steps >= 1", steps, "pass how many steps"
    )


def noise_norm(strategy: Strategy, step: int) -> float:
    """``||C^-1[step]||``: the deviation of a step's noise, for independent noise of deviation 1.

    ValueError for a step that the strategy does not have.

    >>> from dpfunc.strategies.records import Toeplitz
    >>> round(noise_norm(Toeplitz(3, (1.0, 0.5)), 2), 12)
    1.145643923739
    """
    require(
        is_count(step) and step < strategy.steps,
        "noise_norm",
        f"a step below {strategy.steps}",
        step,
        "count steps from 0",
    )
    if isinstance(strategy, InverseToeplitz):
        return math.hypot(*strategy.coefficients[: step + 1])
    if isinstance(strategy, Dense):
        unit = np.zeros(strategy.steps)
        unit[step] = 1.0  # row t of the inverse: x C = e_t
        row = scipy.linalg.solve_triangular(matrix(strategy), unit, lower=True, trans="T")
        return float(np.linalg.norm(row))
    impulse = np.zeros(step + 1)
    impulse[0] = 1.0
    return float(np.linalg.norm(quotient(impulse, strategy.column()[: step + 1])))
