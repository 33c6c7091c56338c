"""The best strategy without any form: a convex problem in ``X = C^T C``.

Minimise ``tr(A^T A X^-1)`` over positive definite X. With one participation the diagonal of X is 1:
a fixed point (arXiv:2202.08312, theorem 3.2) finds it. With k epochs of a fixed order the steps
``i, i + b, i + 2 b, ...`` are of one record: entries between different ones of them are held at 0
and the diagonal adds up to 1 over them (arXiv:2211.06530); which loses little, and makes the
sensitivity the same whatever the signs of the gradients.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import scipy

from dpfunc.strategies.series import Floats

_MEMORY = 40
_MOST_ITERATIONS = 3000
_LEAST_GAIN = 1e-9  # a step that promises less ends the search


def dense_optimum(workload: Floats, epochs: int) -> Floats:
    """C, lower triangular, of sensitivity about 1: ``[steps, steps]``."""
    m = workload.T @ workload
    x = _once(m) if epochs == 1 else _epochs(m, epochs)
    return lower_root(x)


def lower_root(x: Floats) -> Floats:
    """The lower triangular C with ``C^T C = x``."""
    upper = scipy.linalg.cholesky(x[::-1, ::-1], lower=True)
    return np.ascontiguousarray(upper[::-1, ::-1].T)


def dual_bound(workload: Floats, v: Floats) -> float:
    """No strategy of one participation has a smaller sum of errors: for any v > 0."""
    middle = _middle(workload.T @ workload, v)
    return float(2 * np.trace(middle) - v.sum())


def _middle(m: Floats, v: Floats) -> Floats:
    root = np.sqrt(v)
    symmetric = root[:, None] * m * root
    return np.real(np.asarray(scipy.linalg.sqrtm((symmetric + symmetric.T) / 2)))


def _once(m: Floats) -> Floats:
    v = np.sqrt(np.diag(m))
    for _ in range(2000):
        new = np.diag(_middle(m, v)).copy()
        done = np.max(np.abs(new - v) / v) < 1e-11
        v = new
        if done:
            break
    root = np.sqrt(v)
    x = _middle(m, v) / root[:, None] / root
    scale = np.sqrt(np.diag(x))
    result: Floats = x / scale[:, None] / scale
    return result


def _epochs(m: Floats, epochs: int) -> Floats:
    """L-BFGS over the free entries of a root: ``X = D (Y / diag) D``, feasible by construction."""
    steps = len(m)
    apart = steps // epochs
    residue = np.arange(steps) % apart
    free = np.tril(residue[:, None] != residue[None, :])
    rows, columns = np.nonzero(free)

    def unpacked(z: Floats) -> tuple[Floats, Floats]:
        logs = z[:steps].reshape(epochs, apart)
        weights = np.exp(logs - logs.max(axis=0))
        d = (weights / weights.sum(axis=0)).reshape(-1)  # the diagonal: 1 in all over each residue
        x = np.diag(d)
        x[rows, columns] = x[columns, rows] = z[steps:]
        return x, d

    def cost(z: Floats) -> tuple[float, Floats]:
        x, d = unpacked(z)
        try:
            factor = scipy.linalg.cho_factor(x, lower=True)
        except np.linalg.LinAlgError:  # outside of the cone
            return np.inf, np.zeros_like(z)
        inverse_m = scipy.linalg.cho_solve(factor, m)
        slope = -scipy.linalg.cho_solve(factor, inverse_m.T)
        by_d = np.diag(slope)
        mean = (by_d * d).reshape(epochs, apart).sum(axis=0)
        by_logs = d * (by_d - np.tile(mean, epochs))
        return float(np.trace(inverse_m)), np.concatenate([by_logs, 2 * slope[rows, columns]])

    return unpacked(_descend(cost, np.zeros(steps + len(rows))))[0]


def _descend(cost: Callable[[Floats], tuple[float, Floats]], z: Floats) -> Floats:
    """L-BFGS that steps back where the cost is infinite, as SciPy's does not."""
    value, slope = cost(z)
    moves: deque[tuple[Floats, Floats]] = deque(maxlen=_MEMORY)
    for _ in range(_MOST_ITERATIONS):
        direction = -_curved(slope, moves)
        along = float(direction @ slope)
        if along > -_LEAST_GAIN * value:
            break
        length = 1.0
        new, (new_value, new_slope) = z + direction, cost(z + direction)
        while not new_value <= value + 1e-4 * length * along:
            length /= 2
            if length < 1e-12:
                return z
            new = z + length * direction
            new_value, new_slope = cost(new)
        if float((new - z) @ (new_slope - slope)) > 0:
            moves.append((new - z, new_slope - slope))
        z, value, slope = new, new_value, new_slope
    return z


def _curved(slope: Floats, moves: deque[tuple[Floats, Floats]]) -> Floats:
    """The slope, times an inverse of the second derivatives as the last moves showed them."""
    rest, shares = slope.copy(), []
    for move, turn in reversed(moves):
        shares.append(float(move @ rest) / float(move @ turn))
        rest -= shares[-1] * turn
    if moves:
        move, turn = moves[-1]
        rest *= float(move @ turn) / float(turn @ turn)
    else:
        rest /= max(1.0, float(np.abs(rest).max()) * len(rest))
    for (move, turn), share in zip(moves, reversed(shares), strict=True):
        rest += (share - float(turn @ rest) / float(move @ turn)) * move
    return rest
