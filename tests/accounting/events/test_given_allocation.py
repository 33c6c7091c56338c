"""A random allocation of a pair that is given, against a list of every sequence of outcomes."""

import math
from itertools import product
from unittest import mock

import numpy as np
import pytest
from scipy.stats import norm

from dpfunc.accounting import Gaussian, Pair, RandomAllocation, delta_bounds, epsilon_bounds, rdp
from dpfunc.accounting.pairs.allocation import given_allocation, given_ratio, spread

PAIRS = [
    ((0.6, 0.4), (0.4, 0.6)),
    ((0.5, 0.3, 0.2, 0.0), (0.2, 0.3, 0.4, 0.1)),
    ((0.5, 0.3, 0.1, 0.1), (0.2, 0.3, 0.5, 0.0)),
    ((1.0, 0.0), (0.0, 1.0)),
    ((0.5, 0.5), (0.5, 0.5)),
]
ONE_RATIO = (0.5, 0.5)


def exact(p, q, steps, epsilon, relation, times):
    """The definition: which step holds the record is uniform, outcomes are independent."""
    one = []
    for outcomes in product(range(len(p)), repeat=steps):
        without = [q[i] for i in outcomes]
        held = sum(
            math.prod([*without[:at], p[outcomes[at]], *without[at + 1 :]]) for at in range(steps)
        )
        one.append((held / steps, math.prod(without)))
    if relation == "add":
        one = [(b, a) for a, b in one]
    total = 0.0
    for several in product(one, repeat=times):
        a, b = (math.prod(side) for side in zip(*several, strict=True))
        total += max(0.0, a - math.exp(epsilon) * b)
    return total


@pytest.mark.parametrize("relation", ["remove", "add"])
@pytest.mark.parametrize(("steps", "times"), [(1, 1), (2, 1), (3, 1), (5, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_every_sequence_of_outcomes(p, q, steps, times, relation):
    for epsilon in (0.0, 0.2):
        event = RandomAllocation(1, steps, Pair(p, q)) * times
        found = delta_bounds(event, epsilon=epsilon, relation=relation)
        truth = exact(p, q, steps, epsilon, relation, times)
        assert found.lower <= truth * (1 + 1e-12) + 1e-15
        assert found.upper == pytest.approx(truth, rel=1e-9, abs=1e-12)
        assert found.upper >= truth * (1 - 1e-12) - 1e-15


@pytest.mark.parametrize("points", [4, 1000])
@pytest.mark.parametrize("relation", ["remove", "add"])
@pytest.mark.parametrize(("p", "q"), [pair for pair in PAIRS if pair[0] != ONE_RATIO])
def test_two_lists_hold_the_truth(p, q, relation, points):
    """What serves many outcomes, with as few points as it can be cut into."""
    forget()
    with mock.patch.multiple(given_ratio, _POINTS=points, _LISTED=points):
        for steps in (2, 5, 6):
            pair = given_allocation.GivenAllocation(p, q, steps, adds=relation == "add")
            with mock.patch.object(given_allocation, "_MOST_LISTED", 0):
                low, high = pair.ends()
            for epsilon in (0.0, 0.3):
                below, above = (delta_of(one, epsilon) for one in (low, high))
                truth = exact(p, q, steps, epsilon, relation, 1)
                assert below <= truth * (1 + 1e-8)
                assert truth <= above * (1 + 1e-8) + 1e-12
                if points == 1000:
                    assert above == pytest.approx(below, rel=1e-8)
    forget()


def forget():
    """What was kept of laws that were cut into other points."""
    given_allocation._every_loss.cache_clear()
    spread._mean_of.cache_clear()


def delta_of(listed, epsilon):
    loss, p, _ = listed._points()
    gain = np.where(np.isfinite(loss), -np.expm1(epsilon - np.where(np.isfinite(loss), loss, 0)), 1)
    return float((p * np.clip(gain, 0.0, None)).sum())


@pytest.mark.parametrize("steps", [10, 60])
def test_outcomes_of_a_gaussian_are_nearly_its_allocation(steps):
    ends = np.r_[-np.inf, np.linspace(-7.0, 8.0, 600), np.inf]
    p, q = (
        np.where(cut[1:] <= 0, np.diff(norm.cdf(cut)), -np.diff(norm.sf(cut)))
        for cut in (ends - 1, ends)
    )
    pair = Pair(tuple(p.tolist()), tuple(q.tolist()))
    found = epsilon_bounds(RandomAllocation(1, steps, pair), delta=1e-5)
    truth = epsilon_bounds(RandomAllocation(1, steps, Gaussian(1.0)), delta=1e-5)
    assert found.lower <= truth.upper  # telling the cell alone gives less away
    assert found.upper == pytest.approx(truth.upper, rel=5e-3)


def test_moments_are_at_most_those_of_one_step():
    pair = Pair(*PAIRS[0])
    assert rdp(RandomAllocation(1, 7, pair), order=3) <= rdp(pair, order=3) * (1 + 1e-12)


def test_replacing_a_record_is_another_pair():
    with pytest.raises(ValueError, match="no bound is proven"):
        epsilon_bounds(RandomAllocation(1, 3, Pair(*PAIRS[0])), delta=1e-3, relation="replace_one")


def test_very_many_steps_are_at_most_one_that_holds_the_record():
    pair = Pair(*PAIRS[0])
    found = epsilon_bounds(RandomAllocation(1, 200_000, pair), delta=1e-3).upper
    assert found <= epsilon_bounds(pair, delta=1e-3).upper
