"""Ends of intervals that a second reader found on the wrong side: against 60 digits.

Every float counts as the number that it is, and outcomes are listed one by one, so that the truth
has no rounding to speak of.
"""

import math
import random
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from dpfunc.accounting import (
    ApproxDP,
    DiscreteLaplace,
    Gaussian,
    Group,
    NonPrivate,
    Pair,
    Poisson,
    PureDP,
    delta_bounds,
    epsilon,
    epsilon_bounds,
)
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.apart import apart
from dpfunc.accounting.engines.contour import line
from dpfunc.accounting.engines.lattice import grid
from dpfunc.accounting.pairs.laplace_mixture import LaplaceMixture


@pytest.fixture(autouse=True)
def _sixty_digits():
    with mpmath.workdps(60):
        yield


def law(p, q, times=1):
    """The likelihoods of all outcomes of so many releases, those of one ratio together."""
    sums = [mpmath.fsum(map(mpf, masses)) for masses in (p, q)]
    once = [(mpf(a) / sums[0], mpf(b) / sums[1]) for a, b in zip(p, q, strict=True)]
    total = [(mpf(1), mpf(1))]
    for _ in range(times):
        joined = {}
        for a, b in ((a * c, b * d) for a, b in total for c, d in once):
            ratio = mpmath.nstr(a / b, 45) if b > 0 else "inf"
            before = joined.get(ratio, (mpf(0), mpf(0)))
            joined[ratio] = (before[0] + a, before[1] + b)
        total = list(joined.values())
    return total


def true_delta(outcomes, e):
    scale = mpmath.exp(mpf(e))
    return mpmath.fsum(max(mpf(0), a - scale * b) for a, b in outcomes)


def true_epsilon(outcomes, d):
    """Where the curve, convex and piecewise linear in exp(epsilon), falls to d."""
    at = sorted((a / b for a, b in outcomes if b > 0 and a > b), reverse=True)
    p = mpmath.fsum(a for a, b in outcomes if b == 0)
    q = mpf(0)
    for ratio, below in pairwise([*at, mpf(1)]):
        inside = [(a, b) for a, b in outcomes if b > 0 and a / b == ratio]
        p, q = p + sum(a for a, _ in inside), q + sum(b for _, b in inside)
        if (p - mpf(d)) / q >= below:
            return mpmath.log((p - mpf(d)) / q)
    return mpf(0)


def holds(bounds, truth):
    return mpf(bounds.lower) <= truth <= mpf(bounds.upper)


def scaled(masses):
    return tuple(mass / math.fsum(masses) for mass in masses)


def test_losses_that_differ_by_rounding_keep_their_mass():
    p, q = (0.3, 0.45, 0.25), (0.1, 0.15, 0.75)
    found = delta_bounds(Pair(p, q) * 3, epsilon=0.5, relation="remove")
    assert found.engine == "enumeration"
    assert holds(found, true_delta(law(p, q, 3), 0.5))
    assert found.upper == pytest.approx(0.5861373014531, rel=1e-12)


def test_outcomes_of_nearly_one_ratio_at_random():
    draw = random.Random(1)
    for _ in range(40):
        a, b, k = draw.random(), draw.random(), draw.choice([3, 1.1, 0.7, 1 / 3, 1e-6])
        p, q = scaled([a, a * k, draw.random()]), scaled([b, b * k, draw.random()])
        e, times = draw.random(), draw.choice([2, 3, 5])
        found = delta_bounds(Pair(p, q) * times, epsilon=e, relation="remove")
        assert holds(found, true_delta(law(p, q, times), e))


def test_a_rare_sample_of_noise_on_integers_keeps_its_mass():
    rate, per_step = mpf(1e-12), mpf(20)  # P(x) falls by exp(-20) from each integer to the next
    reach = range(-14, 17)
    q = [mpmath.tanh(per_step / 2) * mpmath.exp(-per_step * abs(x)) for x in reach]
    moved = [mpmath.tanh(per_step / 2) * mpmath.exp(-per_step * abs(x - 2)) for x in reach]
    mixed = [(1 - rate) * b + rate * a for a, b in zip(moved, q, strict=True)]
    outcomes = [
        (a * c, b * d) for a, b in zip(mixed, q, strict=True) for c, d in zip(mixed, q, strict=True)
    ]
    found = delta_bounds(
        Poisson(1e-12, DiscreteLaplace(20.0, 2)) * 2, epsilon=0.0, relation="remove"
    )
    assert holds(found, true_delta(outcomes, 0.0))


def test_just_below_what_is_lost_nothing_holds():
    for event, lost in (
        (ApproxDP(0.0, 1e-5), 1e-5),
        (Poisson(0.01, NonPrivate()), 0.01),
        (ApproxDP(1.0, 1e-300), 1e-300),
        (ApproxDP(1.0, 1e-10), 1e-10),
    ):
        for share in (5e-16, 1e-15, 2e-15, 2e-14, 1e-9):
            asked = lost * (1 - share)
            if asked < lost:
                assert epsilon(event, delta=asked, relation="remove") == math.inf
    assert epsilon(ApproxDP(0.0, 1e-5), delta=1e-5) == 0
    assert epsilon(ApproxDP(1.0, 1e-5), delta=1e-5) == 1
    assert epsilon(Poisson(0.01, NonPrivate()), delta=0.01) == 0


@pytest.mark.parametrize(("rate", "e"), [(0.999999, 10.0), (0.999999, 25.0), (1 - 1e-10, 25.0)])
def test_a_rate_near_1(rate, e):
    likely = 1 / (1 + mpmath.exp(-mpf(e)))
    without = (1 - mpf(rate)) * likely + mpf(rate) * (1 - likely)
    outcomes = [(likely, without), (1 - likely, 1 - without)]
    event = Poisson(rate, PureDP(e))
    assert holds(epsilon_bounds(event, delta=0.0, relation="add"), mpmath.log(likely / without))
    top = float(mpmath.log(likely / without)) * 0.999
    total = [(a * c, b * d) for a, b in outcomes for c, d in outcomes]
    assert holds(
        delta_bounds(event * 2, epsilon=2 * top, relation="add"), true_delta(total, 2 * top)
    )


@pytest.mark.parametrize("rate", [0.01, 1e-4, 1e-8])
@pytest.mark.parametrize("relation", ["remove", "add"])
def test_at_delta_0_small_losses_have_a_lower_end(rate, relation):
    mixed = [(1 - mpf(rate)) * mpf(b) + mpf(rate) * mpf(a) for a, b in ((0.6, 0.4), (0.4, 0.6))]
    ratio = mixed[0] / mpf(0.4) if relation == "remove" else mpf(0.6) / mixed[1]
    event = Poisson(rate, Pair((0.6, 0.4), (0.4, 0.6))) * 5
    found = epsilon_bounds(event, delta=0.0, relation=relation)
    assert holds(found, 5 * mpmath.log(ratio))
    assert found.lower >= 0


@pytest.mark.parametrize(("promised", "e"), [(710.0, 705.0), (740.0, 735.0), (800.0, 750.0)])
def test_epsilons_whose_exponential_has_no_float(promised, e):
    likely = 1 / (1 + mpmath.exp(-mpf(promised)))
    truth = true_delta([(likely, likely * mpmath.exp(-mpf(promised)))], e)
    assert holds(delta_bounds(PureDP(promised), epsilon=e), truth)


@pytest.mark.parametrize("exponent", [-16, -30, -60, -120, -280])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_the_logarithm_of_a_small_delta_is_rounded(exponent, times):
    draw = random.Random(exponent)
    for _ in range(20):
        rare, gap = 10.0**exponent * draw.random(), draw.uniform(0.5, 3)
        p = (rare, 0.5, 0.5 - rare) if times == 5 else (rare, 1 - rare)
        low = rare * math.exp(-gap)
        q = (low, 0.4, 0.6 - low) if times == 5 else (low, 1 - low)
        e = draw.uniform(0, gap) + (1.2 if times == 5 else 0)
        outcomes = law(p, q, times)
        truth = true_delta(outcomes, e)
        event = Pair(p, q) * times
        assert holds(delta_bounds(event, epsilon=e, relation="remove"), truth)
        asked = float(truth) * (1 - 2.0**-52 * draw.randint(0, 3))
        if asked > 0:
            found = epsilon_bounds(event, delta=asked, relation="remove")
            assert holds(found, true_epsilon(outcomes, asked))


def test_many_small_promises_beside_a_large_one_are_counted():
    small = [5e-17 * (1 + i * 1e-4) for i in range(400)]
    event = ApproxDP(0.0, 0.5)
    for lost in small:
        event += ApproxDP(0.0, lost)
    truth = 1 - mpf(0.5) * mpmath.fprod(1 - mpf(lost) for lost in small)
    assert holds(delta_bounds(event, epsilon=0.0), truth)
    parted = apart(pairs(event + Gaussian(1.0), "remove")[0])
    assert mpf(parted.surely_lost) <= truth <= mpf(parted.lost)


def test_a_group_under_a_promise_is_rounded_up():
    assert mpf(epsilon(Group(3, PureDP(0.7)), delta=0.0, relation="add")) >= 3 * mpf(0.7)


@pytest.mark.parametrize("log_peak", [line.log_peak, grid.log_peak])
@pytest.mark.parametrize("c", [1e-9, 0.3, 1.0, 17.0, 1e6, 1e9])
def test_the_peak_of_chernoffs_factor(log_peak, c):
    exact = mpf(c) * mpmath.log(mpf(c)) - (mpf(c) + 1) * mpmath.log1p(mpf(c))
    assert log_peak(c) == pytest.approx(float(exact), rel=1e-14)


def test_places_of_close_nodes_are_in_order():
    pair = LaplaceMixture(1.0, above=((1.0, 1e-9),))
    nodes = np.unique(np.linspace(-1e-10, 1e-9, 20_000))
    cells = pair.cells(nodes)
    assert (cells.p >= 0).all()
    assert (cells.r >= 0).all()


def test_deltas_that_floats_barely_hold():
    rare = 3e-300
    p, q = (rare, 1 - rare), (rare / 2, 1 - rare / 2)
    e = math.log(2) * (1 - 1e-9)  # delta is 3e-300 times 7e-10: a float of few digits
    found = delta_bounds(Pair(p, q), epsilon=e, relation="remove")
    assert holds(found, true_delta(law(p, q), e))


def test_masses_of_no_full_digits_are_refused():
    with pytest.raises(ValueError, match="at least 1e-300"):
        Pair((0.5, 0.5), (1e-320, 1.0))
    assert Pair((0.5, 0.5), (0.0, 1.0)).q == (0.0, 1.0)
