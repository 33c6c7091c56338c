"""The lattice engine for pairs whose cells are not known to the last digits: one grid, no finer.

A finer grid has more cells and each has the same absolute error, so that refining ends nowhere.
"""

from dpfunc.accounting.domination import Composition
from dpfunc.accounting.lattice import Interval, laws_on
from dpfunc.accounting.lattice_grid import plan

_MOST_OUTSIDE = 1e-9  # of tilted probability, outside the window


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> Interval:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``: a grid for ``tol``."""
    grid = plan(composition, tol, log_delta=log_delta)
    laws = laws_on(grid, composition)
    for _ in range(2):
        if laws.above.law(1).outside < _MOST_OUTSIDE:
            break
        _, upper = laws.interval(1, log_delta, grid.epsilon, both=False)
        grid = plan(composition, tol, log_delta=log_delta, epsilon=upper)  # a better window
        laws = laws_on(grid, composition)
    return laws.interval(1, log_delta, grid.epsilon)
