"""Where to cut a law: a mass in each cell goes in, places between cells that cost as much come out.

What lies in a cell of width w is moved by about w, which costs its mass times the square of w. So
distances are like the cube root of the density.
"""

import numpy as np

from dpfunc.accounting.pairs.privacy_loss import Array

_SPARSE = 1e-9  # of the largest density: places are no farther apart than there


def at_equal_cost(ends: Array, mass: Array, count: int) -> Array:
    """``count`` places from the first of the [n + 1] ``ends`` of cells to the last.

    ``mass``: [n] of the cells.
    """
    width = np.diff(ends)
    density = mass / width
    rise = np.maximum(density / density.max(), _SPARSE) ** (1 / 3) * width
    risen = np.concatenate([[0.0], np.cumsum(rise)])
    places = np.interp(np.linspace(0.0, risen[-1], count), risen, ends)
    return np.asarray(places, dtype=np.float64)
