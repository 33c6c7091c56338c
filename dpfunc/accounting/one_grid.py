"""The lattice engine for pairs whose cells are not known to the last digits: one grid, no finer.

A finer grid has more cells and each has the same absolute error, so that refining ends nowhere.
"""

import math
from collections.abc import Callable
from functools import partial

from dpfunc.accounting.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.lattice import log_delta_above, log_delta_below
from dpfunc.accounting.lattice_grid import plan
from dpfunc.accounting.lattice_law import Law, spectrum

_MOST_OUTSIDE = 1e-9  # of tilted probability, outside the window


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``: a grid for ``tol``."""
    grid = plan(composition, tol, log_delta=log_delta)
    above = spectrum(composition, grid, upper_atoms).law(1)
    for _ in range(2):
        if above.outside < _MOST_OUTSIDE:
            break
        upper = _last(partial(_is_above, above, log_delta), grid.epsilon, 0.01)[1]
        grid = plan(composition, tol, log_delta=log_delta, epsilon=upper)  # a better window
        above = spectrum(composition, grid, upper_atoms).law(1)
    below = spectrum(composition, grid, lower_atoms).law(1)
    close = 0.02 * tol
    upper = _last(partial(_is_above, above, log_delta), grid.epsilon, close)[1]
    lower = _last(lambda e: log_delta_below(below, e) >= log_delta, min(upper, grid.epsilon), close)
    return lower[0], upper


def _is_above(law: Law, log_delta: float, epsilon: float) -> bool:
    return log_delta_above(law, epsilon) > log_delta


def _last(holds: Callable[[float], bool], guess: float, close: float) -> tuple[float, float]:
    """The ends of a small interval at whose lower end it holds, or is 0, and at the upper not."""
    low, high, step = guess, guess, 1e-3 * guess + 1e-9
    while holds(high):
        low, high, step = high, high + step, 2 * step
        if high > 1e12:
            return low, math.inf
    while low == high or not holds(low):
        if low <= 0:
            return 0.0, 0.0 if low == high else high
        low, high, step = max(0.0, low - step), low, 2 * step
    while high - low > close * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
