"""The mixture pair: the loss is the ratio of the densities, the cells are the distributions."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting.pairs.mixture import GaussianMixture, normal_mass

PAIRS = {
    "remove": GaussianMixture(1.0, above=((1.0, 0.1),)),
    "add": GaussianMixture(0.3, below=((1.0, 0.9),)),
    "replace": GaussianMixture(4.0, above=((1.0, 0.01),), below=((1.0, 0.01),)),
    "group": GaussianMixture(2.0, above=((1.0, 0.18), (2.0, 0.01))),
    "flat": GaussianMixture(0.25, below=((2.0, 0.005), (4.0, 1.2e-5), (6.0, 2e-8))),
    "unsampled": GaussianMixture(0.5, above=((1.0, 1.0),)),
    "nearly unsampled": GaussianMixture(0.7, above=((1.0, 1 - 1e-9),)),
}
EACH = pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))


def exact_loss(pair, y):
    """``log dP/dQ`` by 50 digits."""

    def log_density(y, components):
        centre = 1 - mpmath.fsum(w for _, w in components)
        moved = [
            w * mpmath.exp(s * y / pair.noise_multiplier - (s / pair.noise_multiplier) ** 2 / 2)
            for s, w in ((mpmath.mpf(s), mpmath.mpf(w)) for s, w in components)
        ]
        return mpmath.log(centre + mpmath.fsum(moved))

    with mpmath.workdps(50):
        y = mpmath.mpf(float(y))
        return log_density(y, pair.above) - log_density(-y, pair.below)


@EACH
def test_the_loss_to_all_digits(pair):
    y = np.linspace(-12, 12, 61)
    exact = np.array([float(exact_loss(pair, v)) for v in y])
    np.testing.assert_allclose(pair.loss(y), exact, rtol=4e-15, atol=1e-14 * abs(exact).max())
    assert (np.diff(pair.loss(np.linspace(-30, 30, 999))) >= 0).all()


@EACH
def test_the_slope_is_the_derivative(pair):
    y = np.linspace(-8, 8, 40)
    step = 1e-5
    rise = (pair.loss(y + step) - pair.loss(y - step)) / (2 * step)
    np.testing.assert_allclose(pair.slope(y), rise, rtol=1e-5, atol=1e-8)


@EACH
def test_cells_hold_all_mass_and_keep_the_loss_between_their_nodes(pair):
    nodes = pair.nodes(500, 1e-12)
    p, r, p_error, r_error, shift = pair.cells(nodes)
    assert len(p) == len(r) == len(nodes) + 1
    assert min(p.min(), r.min(), p_error.min(), r_error.min()) >= 0
    assert abs(p.sum() - 1) <= p_error.sum() + 1e-14
    assert abs(r.sum() - 1) <= r_error.sum() + 1e-14
    assert p[-1] <= 1e-12
    assert 0 <= shift < 1e-11
    solid = (p > 1e-250) & (r > 1e-250)
    ratio = np.log(p[solid] / r[solid])
    slack = 1e-9 + shift
    assert (ratio >= np.concatenate([[-np.inf], nodes])[solid] - slack).all()
    assert (ratio <= np.concatenate([nodes, [np.inf]])[solid] + slack).all()


@EACH
def test_masses_are_those_of_the_distribution_functions(pair):
    y = np.linspace(-5, 6 if pair is not PAIRS["flat"] else -1.5, 45)  # places that a loss tells
    nodes = pair.loss(y)
    nodes, first = np.unique(nodes, return_index=True)
    p, r, *_ = pair.cells(nodes)
    cdf_p, cdf_q = pair.cdfs(y[first])
    np.testing.assert_allclose(np.cumsum(p)[:-1], cdf_p, atol=1e-9)
    np.testing.assert_allclose(np.cumsum(r)[:-1], cdf_q, atol=1e-9)


def test_nodes_out_of_reach_leave_empty_cells():
    p, r, *_ = PAIRS["add"].cells(np.array([-1.0, 2.2, 2.31, 50.0]))  # losses stay below 2.303
    assert p[3:].tolist() == r[3:].tolist() == [0.0, 0.0]
    assert p[:3].sum() == pytest.approx(1)


@settings(max_examples=200)
@given(st.floats(-12, 12), st.floats(-6, 1))
def test_normal_mass_has_relative_accuracy(a, log10_width):
    b = a + 10.0**log10_width
    with mpmath.workdps(60):
        exact = mpmath.ncdf(b) - mpmath.ncdf(a)
        ours = normal_mass(np.array([a, b]))[0]
        assert abs(ours - exact) <= exact * 2.3e-16 * (8 + 2 * max(abs(a), abs(b)) ** 2)
