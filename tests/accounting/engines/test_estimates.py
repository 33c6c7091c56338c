"""Estimates prove nothing, but a search that begins far off is slow: they are near enough."""

import math

import pytest

from dpfunc.accounting import Gaussian, Poisson, epsilon_bounds
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.contour.estimates import about_epsilon


@pytest.mark.parametrize(
    ("event", "delta", "factor"),
    [
        (Poisson(0.01, Gaussian(1.0)) * 1000, 1e-5, 1.1),
        (Poisson(0.999, Gaussian(0.3)) * 50, 0.1, 1.1),  # every release to blame
        (Poisson(6e-7, Gaussian(0.38)) * 5, 1.3e-11, 1.3),  # one of them, if any
        (Poisson(0.0213, Gaussian(2.7e8)) * 13, 8.6e-14, 3.0),
    ],
    ids=repr,
)
def test_about_what_is_proven(event, delta, factor):
    (composition, *_) = pairs(event, "remove")
    proven = epsilon_bounds(event, delta=delta, relation="remove", tol=1e-2).upper
    assert proven / factor < about_epsilon(composition, math.log(delta)) < proven * factor
