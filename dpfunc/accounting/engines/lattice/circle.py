"""A law on the circle of a transform, and how exact its transform is."""

import math
from typing import NamedTuple

import numpy as np
from scipy import fft

from dpfunc.accounting.engines.lattice.kernel import Complex, Indices
from dpfunc.accounting.pairs.privacy_loss import ULP, Array


class Tilted(NamedTuple):
    """The tilted law of one release on the circle, centred on its heaviest loss."""

    mass: Array  # [m]
    indices: Indices  # [m] on the lattice
    places: Indices  # [m] on the circle
    first: int  # the index of the loss at place 0
    relative: float  # error of all masses together


def transformed(circle: Array) -> tuple[Complex, float]:
    """The transform at half of the frequencies, and a bound on the 2-norm of its error at all.

    A length without primes above 5 errs by at most this. With u = ULP / 2: a pass of radix r
    multiplies by twiddle factors, good to 8 u (products of two roots, whose angles are rounded
    twice), in complex products (2.3 u: Brent, Percival and Zimmermann 2007), and forms sums of r
    terms, each of which goes through k roundings at most (1, 4, 2, 5.5 for r = 2, 3, 4, 5), which
    counts ``sqrt(r) k u``. All of it is below ``6 ULP log2(r)``, and passes add up (Higham 2002,
    section 24.1).
    """
    n = len(circle)
    error = 6 * ULP * math.log2(n) * math.sqrt(n) * float(np.linalg.norm(circle))
    return fft.rfft(circle), error
