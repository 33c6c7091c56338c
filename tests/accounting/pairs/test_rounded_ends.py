"""What a second reader found: ends that were on the wrong side of the truth, by rounding."""

import math
from fractions import Fraction

import pytest

from dpfunc.accounting import (
    Gaussian,
    Group,
    Laplace,
    Pair,
    Poisson,
    RandomAllocation,
    WithoutReplacement,
    delta_bounds,
    epsilon_bounds,
)

STEPS = 500


def exact_delta(p, q, order, epsilon):
    """Of one allocation of a pair of two outcomes: over how many steps have the second one."""
    p, q = [[Fraction(x) / sum(map(Fraction, of)) for x in of] for of in (p, q)]
    e = Fraction(math.exp(epsilon))
    total = Fraction(0)
    for k in range(40):  # of the 500: the others are out of reach of floats
        mass = math.comb(STEPS, k) * q[1] ** k * q[0] ** (STEPS - k)
        ratio = (k * p[1] / q[1] + (STEPS - k) * p[0] / q[0]) / STEPS
        gain = ratio - e if order == "remove" else 1 - e * ratio
        total += mass * max(gain, Fraction(0))
    return float(total)


@pytest.mark.parametrize(
    ("p", "q", "order", "epsilon"),
    [
        ((1.0, 1e-16), (1.0, 1e-22), "remove", 0.1),
        ((1 - 2.0**-53, 1.6e-16), (1.0, 1e-22), "remove", 0.1),
        ((1 - 3.3e-14, 3.3e-14), (1.0, 1e-22), "remove", 0.1),
        ((1 - 1e-12, 1e-12), (1.0, 1e-20), "remove", 0.1),
        ((1.0, 0.0), (1.0, 1e-16), "add", 0.0005),
        ((0.9, 0.1), (0.999, 0.001), "add", 0.01),
    ],
)
def test_what_next_to_nobody_sees_is_not_lost_in_a_wide_cell(p, q, order, epsilon):
    event = RandomAllocation(1, STEPS, Pair(p, q))
    found = delta_bounds(event, epsilon=epsilon, relation=order, tol=1e-6)
    exact = exact_delta(p, q, order, epsilon)
    assert found.lower <= exact * (1 + 1e-9)
    assert found.upper >= exact * (1 - 1e-9)
    assert found.upper > 0


@pytest.mark.parametrize("left", [3e-6, 6.9e-6, 1e-5, 7e-7, 1e-3, 0.3])
def test_a_group_of_which_nearly_all_are_read(left):
    """That none is read rounds by 1e-16, which is a lot of a millionth squared."""
    rate = 1 - left
    event = Group(2, Poisson(rate, Gaussian(0.05)))
    none = (1 - Fraction(rate)) ** 2
    epsilon = -math.log(none) - 1e-4  # without noise, delta is 1 - exp(epsilon) none
    exact = float(1 - Fraction(math.exp(epsilon)) * none)
    found = delta_bounds(event, epsilon=epsilon, relation="add", tol=1e-6)
    assert found.lower <= exact * (1 + 1e-9)
    assert found.upper >= exact * (1 - 1e-9)


@pytest.mark.parametrize(
    "event",
    [WithoutReplacement(3, 10, Laplace(1e-6)), Poisson(1e-12, Laplace(1e-10)) * 3],
    ids=repr,
)
def test_next_to_no_noise_is_answered(event):
    found = epsilon_bounds(event, delta=1e-12, relation="replace_one", tol=1e-3)
    assert 0 <= found.lower <= found.upper
