"""The lattice engine for pairs whose cells are not known to the last digits: one grid, no finer.

A finer grid has more cells and each has the same absolute error, so that refining ends nowhere.
"""

import numpy as np

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.lattice.grid import plan
from dpfunc.accounting.engines.lattice.law import Spectrum, spectrum
from dpfunc.accounting.engines.lattice.sums import ABOVE, BELOW, epsilons, outside
from dpfunc.accounting.pairs.atoms import lower_atoms, upper_atoms
from dpfunc.accounting.pairs.privacy_loss import OutOfReachError

_MOST_OUTSIDE = 1e-9  # of tilted probability, outside the window


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``: a grid for ``tol``."""
    grid = plan(composition, tol, log_delta=log_delta)
    above = spectrum(composition, grid, upper_atoms)
    for _ in range(2):
        if _outside_window(above) < _MOST_OUTSIDE:
            break
        upper = epsilons(above, [1], log_delta, np.array([grid.epsilon]), ABOVE).epsilon
        grid = plan(composition, tol, log_delta=log_delta, epsilon=float(upper[0]))
        above = spectrum(composition, grid, upper_atoms)
    upper = epsilons(above, [1], log_delta, np.array([grid.epsilon]), ABOVE).epsilon
    below = spectrum(composition, grid, lower_atoms)
    try:
        lower = epsilons(below, [1], log_delta, upper, BELOW).epsilon
    except OutOfReachError:
        lower = np.zeros(1)
    return float(lower[0]), float(upper[0])


def _outside_window(law: Spectrum) -> float:
    middle, half = law.grid.middle, law.grid.points * law.grid.step / 2
    return float(outside(law, np.ones(1), np.array([middle - half]), np.array([middle + half]))[0])
