"""Whether a few losses lie on one lattice, and where on it."""

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.pairs.privacy_loss import ULP, Array

_MOST_STEPS = 4096  # from the least loss to the largest
_CLOSE = 1e3  # ulps of the largest loss: how near to the lattice a loss has to be


def lattice_step(losses: Array) -> NDArray[np.int64] | None:
    """The index of each of the increasing losses on their coarsest lattice, from 0; or None.

    By Euclid's algorithm on the gaps. How far the losses are off the lattice is for the caller to
    count: it is rounding, or the lattice is not returned.
    """
    close = _CLOSE * ULP * float(np.abs(losses).max())
    span = float(losses[-1] - losses[0])
    step = span
    for gap in np.diff(losses).tolist():
        larger, smaller = step, gap
        while smaller > close * _MOST_STEPS:
            larger, smaller = smaller, larger - round(larger / smaller) * smaller
            smaller = abs(smaller)
        step = larger
        if step * _MOST_STEPS < span:
            return None
    count = round(span / step)
    indices: NDArray[np.int64] = np.rint((losses - losses[0]) / span * count).astype(np.int64)
    if np.abs(losses[0] + indices * (span / count) - losses).max() > close:
        return None
    return indices
