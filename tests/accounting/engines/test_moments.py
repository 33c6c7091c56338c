"""Complex moments: their logarithms are known as well as is said."""

import mpmath
import numpy as np
import pytest

from dpfunc.accounting.engines.contour.moments import Moments, moments, sizes
from dpfunc.accounting.pairs.mixture import GaussianMixture


def test_the_logarithm_of_a_moment_near_0_is_within_its_error():
    excess = np.array([-1 + 2.0**-30, -1 + 1e-7j, -1 + 2.0**-40 + 1e-10j, -0.4 + 0.8j, 1e-12 + 0j])
    found = Moments(excess, np.full(5, 1e-17))
    with mpmath.workdps(50):
        true = np.array([complex(mpmath.log(1 + mpmath.mpc(z))) for z in excess])
    assert (np.abs(found.log() - true) <= found.log_error()).all()


@pytest.mark.parametrize("accuracy", [1e-4, 1e-9])
@pytest.mark.parametrize("c", [0.5, 6.0])
@pytest.mark.parametrize("shifts", ["above", "below", "both"])
def test_sizes_are_those_of_moments_within_their_errors(shifts, c, accuracy):
    components = ((1.0, 0.03), (2.0, 0.01))
    pair = GaussianMixture(
        1.3,
        above=components if shifts != "below" else (),
        below=components if shifts != "above" else (),
    )
    t = np.linspace(0.0, 40.0, 60)
    exact = moments(pair, c, t, 1e-12)
    size, error = sizes(pair, c, t, accuracy)
    assert (np.abs(size - np.abs(1 + exact.excess)) <= error + exact.error).all()
    assert 0 < error < accuracy + 1e-10 * size[0]
    moved = sizes(pair, c, t, accuracy)[0] != np.abs(1 + exact.excess)
    assert moved.any()  # they are rounded otherwise
