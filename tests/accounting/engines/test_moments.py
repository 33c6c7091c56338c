"""Complex moments: their logarithms are known as well as is said."""

import math
from fractions import Fraction

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


def test_sizes_where_next_to_nothing_is_left_of_a_mixture():
    """What is left is 1 less a sum of weights: an ulp of 1, which is a lot of 1e-9."""
    rate, records, c = 0.9437, 8, 10.6
    moves = [
        (float(k), math.comb(records, k) * rate**k * (1 - rate) ** (records - k))
        for k in range(1, records + 1)
    ]
    pair = GaussianMixture(2.99, below=tuple(moves))
    t = np.array([0.0, 0.3])
    size, error = sizes(pair, c, t, 1e-9)
    left = 1 - sum((Fraction(w) for _, w in moves), Fraction(0))
    with mpmath.workdps(30):
        for one, place in zip(size, t, strict=True):
            exact = abs(exact_moment(pair, left, mpmath.mpc(c, place)))
            assert abs(one - exact) <= error


def exact_moment(pair, left, z):
    """``E[exp(z L)]`` by quadrature, the shifts of Q alone, with what exactly is left."""
    sigma = mpmath.mpf(pair.noise_multiplier)
    left = mpmath.mpf(left.numerator) / left.denominator

    def b(y):  # Q over the density of the noise
        parts = [
            mpmath.mpf(w) * mpmath.exp(-s / sigma * y - (s / sigma) ** 2 / 2) for s, w in pair.below
        ]
        return left + mpmath.fsum(parts)

    def integrand(y):
        return mpmath.exp(-z * mpmath.log(b(y))) * mpmath.npdf(y)

    return mpmath.quad(integrand, mpmath.linspace(-12, 40, 27))
