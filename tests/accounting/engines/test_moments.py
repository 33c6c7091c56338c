"""Complex moments: their logarithms are known as well as is said."""

import mpmath
import numpy as np

from dpfunc.accounting.engines.contour.moments import Moments


def test_the_logarithm_of_a_moment_near_0_is_within_its_error():
    excess = np.array([-1 + 2.0**-30, -1 + 1e-7j, -1 + 2.0**-40 + 1e-10j, -0.4 + 0.8j, 1e-12 + 0j])
    found = Moments(excess, np.full(5, 1e-17))
    with mpmath.workdps(50):
        true = np.array([complex(mpmath.log(1 + mpmath.mpc(z))) for z in excess])
    assert (np.abs(found.log() - true) <= found.log_error()).all()
