"""A curve is its points: sharing work between step counts moves no answer beyond its width."""

import math

import numpy as np
import pytest

from dpfunc.accounting import (
    ZCDP,
    Gaussian,
    Laplace,
    Poisson,
    PureDP,
    TruncatedPoisson,
    epsilon,
    epsilon_bounds,
    epsilon_curve,
    epsilon_curve_bounds,
)
from dpfunc.accounting.pairs.privacy_loss import OutOfReachError
from dpfunc.accounting.questions.step_counts import ends_of_counts

STEP = Poisson(0.02, Gaussian(1.5))


@pytest.mark.parametrize(
    ("event", "relation", "steps"),
    [
        (STEP, "add_or_remove", [700, 900, 1000, 1100]),
        (STEP, "replace_one", [700, 1100]),
        (Poisson(0.3, Gaussian(6.0)), "add_or_remove", [300, 301, 555]),  # orders are close here
        (STEP + Gaussian(100.0), "add_or_remove", [700, 1100]),
        (Gaussian(20.0), "add_or_remove", [100, 150]),
    ],
    ids=repr,
)
def test_points_on_one_contour(event, relation, steps):
    lower, upper = epsilon_curve_bounds(event, steps=steps, delta=1e-6, relation=relation)
    for n, least, most in zip(steps, lower, upper, strict=True):
        single = epsilon_bounds(event * n, delta=1e-6, relation=relation)
        assert least <= single.lower * (1 + 1e-12)
        assert most >= single.upper * (1 - 1e-12)
        assert most - least < 1e-7 * most


@pytest.mark.parametrize(
    ("event", "relation", "steps"),
    [
        (Poisson(0.01, Gaussian(1.0)), "add_or_remove", [2, 3, 4]),
        (Poisson(0.01, Gaussian(1.0)), "add", [20, 21, 30]),
        (Poisson(0.2, Laplace(2.0)), "remove", [11, 13]),
    ],
    ids=repr,
)
def test_points_on_one_lattice(event, relation, steps):
    lower, upper = epsilon_curve_bounds(event, steps=steps, delta=1e-6, relation=relation)
    alone = epsilon_curve(event, steps=steps, delta=1e-6, relation=relation)
    for n, least, most, again in zip(steps, lower, upper, alone, strict=True):
        single = epsilon_bounds(event * n, delta=1e-6, relation=relation, tol=1e-4)
        assert 0 < least <= single.upper
        assert single.lower <= most <= single.upper * (1 + 1e-5)
        assert again == most


def test_steps_in_any_order_and_more_than_once():
    steps = [900, 1, 0, 1000, 900]
    curve = epsilon_curve(STEP, steps=steps, delta=1e-5)
    for n, value in zip(steps, curve, strict=True):
        assert value == pytest.approx(epsilon(STEP * n, delta=1e-5), rel=1e-7)
    assert np.array_equal(curve, epsilon_curve(STEP, steps=np.array(steps), delta=1e-5))


def test_many_points_of_one_contour_are_those_of_few():
    """A polynomial only starts the search: it moves no answer."""
    many = epsilon_curve(STEP, steps=range(1000, 1400), delta=1e-5)
    few = epsilon_curve(STEP, steps=[1000, 1123, 1399], delta=1e-5)
    assert np.all(np.diff(many) > 0)
    assert few == pytest.approx(many[[0, 123, 399]], rel=1e-9)


def test_a_pair_that_is_not_attained_has_no_lower_end():
    event = TruncatedPoisson(STEP.sample_rate, 50, 1000, Gaussian(1.5))
    lower, upper = epsilon_curve_bounds(event, steps=[800, 900], delta=1e-5)
    assert np.all(lower == 0.0)
    assert np.all(upper > epsilon_curve(STEP, steps=[800, 900], delta=1e-5))


def test_edges():
    assert len(epsilon_curve(STEP, steps=[], delta=1e-5)) == 0
    assert epsilon_curve(STEP, steps=[0, 3], delta=0.07).tolist() == [0.0, 0.0]  # hardly ever read
    loud = Poisson(0.02, Gaussian(0.1))
    rare, often = epsilon_curve(loud, steps=[2, 3], delta=0.05)
    assert rare == 0.0 < often == pytest.approx(epsilon(loud * 3, delta=0.05), rel=1e-4)
    assert epsilon_curve(Gaussian(math.inf), steps=[5, 6], delta=1e-5).tolist() == [0.0, 0.0]
    assert epsilon_curve(Gaussian(0.0), steps=[5, 6], delta=1e-5).tolist() == [math.inf] * 2
    assert epsilon_curve(Gaussian(1.0), steps=[5, 6], delta=0.0).tolist() == [math.inf] * 2
    assert epsilon_curve(Gaussian(1.0), steps=[5, 6], delta=1.0).tolist() == [0.0, 0.0]
    for event in (ZCDP(1e-4), PureDP(0.1)):  # one at a time
        curve = epsilon_curve(event, steps=[50, 60], delta=1e-5)
        assert curve.tolist() == [epsilon(event * n, delta=1e-5) for n in (50, 60)]


def test_what_is_refused():
    with pytest.raises(ValueError, match="ints >= 0 as steps"):
        epsilon_curve(STEP, steps=[1.5], delta=1e-5)
    with pytest.raises(ValueError, match="ints >= 0 as steps"):
        epsilon_curve(STEP, steps=[-1], delta=1e-5)
    with pytest.raises(ValueError, match="a probability 0 <= delta <= 1"):
        epsilon_curve(STEP, steps=[1], delta=-1e-5)


def test_an_engine_that_cannot_share_says_so():
    """The contour of two steps does not end; a promise has no lattice."""
    with pytest.raises(OutOfReachError):
        ends_of_counts(STEP, [2, 3], 1e-5, "add_or_remove", both=False, engines=("contour",))
    with pytest.raises(OutOfReachError):
        ends_of_counts(PureDP(0.1), [20, 30], 1e-5, "add_or_remove", both=False)
