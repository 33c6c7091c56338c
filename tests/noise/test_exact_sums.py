"""Sums on a fine grid: added without rounding, in any order, and no more sensitive than said."""

import math

import pytest
import torch

import dpfunc as dp
from dpfunc.noise.exact_sums import add_, as_sum, exact_grid, most_samples, on_grid
from dpfunc.types import Summed

SHARE = 2.0**-12


def rounded(parts, grid):
    """The sum of the rounded parts, each ``[size]``, as a float64 tensor."""
    total, *others = (on_grid(Summed({"w": part}, 1.0), grid) for part in parts)
    for other in others:
        add_(total, other)
    return as_sum(total).values["w"]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("parts", [1, 8, 64])
def test_no_assignment_of_records_to_parts_moves_the_sum_by_more(size, parts):
    """Every part just above half a step, and just below it next door: all of them round apart."""
    grid = exact_grid(1.0, size=size, parts=parts)
    half = torch.full((parts, size), 0.5 * grid, dtype=torch.float64)
    tiny = grid * 2.0**-20
    there, here = rounded(half + tiny, grid), rounded(half - tiny, grid)
    moved = float((there - here).norm())
    truly = float((2 * tiny * torch.ones(size, dtype=torch.float64) * parts).norm())
    assert moved > 0.4 * SHARE  # the worst case is met
    assert moved <= truly + SHARE


@pytest.mark.parametrize("parts", [1, 3, 12, 64])
@pytest.mark.parametrize("size", [1, 2, 1000, 10**9])
@pytest.mark.parametrize("bound", [1e-9, 0.7, 1.0, 3e4])
def test_the_grid_is_the_largest_power_of_two_that_is_fine_enough(bound, size, parts):
    grid = exact_grid(bound, size=size, parts=parts)
    assert math.frexp(grid)[0] == 0.5
    assert parts * math.sqrt(size) * grid <= SHARE * bound < 2 * parts * math.sqrt(size) * grid


def test_any_order_gives_the_same_bits():
    values = dp.normal(dp.key(1), (40, 300), dtype=torch.float64) / 40
    grid = exact_grid(1.0, size=300, parts=40)
    straight = rounded(values, grid)
    assert torch.equal(rounded(values.flip(0), grid), straight)
    assert torch.equal(rounded(values[torch.arange(40) * 7 % 40], grid), straight)
    plain = values.double().sum(0)
    assert (straight - plain).abs().max() <= 20 * grid


def test_so_many_samples_are_exact():
    """One more unit of 2**53 is not: the number is no larger than it may be, nor far smaller."""
    grid = exact_grid(1.0, size=10**6, parts=8)
    most = most_samples(grid, 1.0)
    steps = most * 1.0 / grid
    assert steps < 2.0**53 < steps * 1.01


def test_two_grids_do_not_add():
    one = on_grid(Summed({"w": torch.ones(2)}, 1.0), 2.0**-20)
    other = on_grid(Summed({"w": torch.ones(2)}, 1.0), 2.0**-21)
    with pytest.raises(ValueError, match="expected two sums of the same parameters on one grid"):
        add_(one, other)


@pytest.mark.parametrize("bound", [math.inf, 0.0, math.nan])
def test_a_bound_without_a_grid(bound):
    with pytest.raises(ValueError, match="exact_grid: expected a finite bound > 0"):
        exact_grid(bound, size=3, parts=2)
