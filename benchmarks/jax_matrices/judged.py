"""What a strategy is worth, by the definition alone: NumPy, and none of the two libraries.

In comes the first column of a Toeplitz matrix C or all of C. Out comes the error of prefix sums for
a sensitivity of 1, where a record takes part k times, n / k steps apart.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def whole(c: Floats) -> Floats:
    """The matrix, ``[steps, steps]``, of a first column ``[steps]``; a matrix stays."""
    if c.ndim == 2:
        return c
    steps = len(c)
    lags = np.arange(steps)[:, None] - np.arange(steps)
    return np.where(lags >= 0, c[np.abs(lags)], 0.0)


def root_error(c: Floats, most: int, error: str) -> float:
    """``sqrt(mean or max of ||(A C^-1)[t]||^2)``, times the sensitivity."""
    full = whole(c)
    steps = len(full)
    b = np.linalg.solve(full.T, np.tri(steps).T).T  # B C = A
    squares = (b**2).sum(axis=1)
    x = np.abs(full.T @ full)
    apart = steps // most
    square = max(x[i::apart, i::apart].sum() for i in range(apart))
    return float(np.sqrt((squares.mean() if error == "mean" else squares.max()) * square))
