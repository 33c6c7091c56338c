"""Interpolated transforms of a log-normal variable: as far from summed ones as they say."""

import math

import numpy as np
import pytest

from dpfunc.accounting.pairs.allocation import along_line
from dpfunc.accounting.pairs.allocation.along_line import transform_along
from dpfunc.accounting.pairs.allocation.lognormal import Transform, transform

# Noise, steps, the real part of a line, its end and how many points: as series of allocations are.
LINES = [
    (1.0, 100, 1e-3, 2.0, 9000),
    (0.5, 10, 5e-3, 40.0, 9000),
    (0.3, 50, 1e-4, 5.0, 9000),
    (2.5, 40, 2e-2, 8.0, 9000),
    (8.0, 500, 5e-3, 6.0, 12_000),
    (1.5, 2, 1.3, 300.0, 9000),
    (30.0, 100, 1e-2, 8.0, 30_000),
]


def points(c, end, count):
    return np.asarray(c + 1j * np.linspace(0.0, end, count), np.complex128)


def shares(found, exact):
    """How much of the errors, of both together, both differ by."""
    return [
        float(np.max(np.abs(value - truth) / (error + known)))
        for value, error, truth, known in (
            (found.plain, found.error, exact.plain, exact.error),
            (found.sized, found.sized_error, exact.sized, exact.sized_error),
        )
    ]


@pytest.mark.parametrize(("sigma", "steps", "c", "end", "count"), LINES)
def test_it_differs_from_sums_by_less_than_the_errors_and_errs_little_more(
    sigma, steps, c, end, count
):
    s = points(c, end, count)
    found, exact = transform_along(s, sigma, steps), transform(s, sigma, steps)
    assert not np.array_equal(found.plain, exact.plain)  # it has been interpolated
    assert max(shares(found, exact)) < 1
    assert np.median(found.error / exact.error) < 6
    assert np.median(found.sized_error / exact.sized_error) < 9


@pytest.mark.parametrize("nodes", [2, 3, 5])
@pytest.mark.parametrize(("sigma", "steps", "c", "end", "count"), LINES[:-1])
def test_few_nodes_and_wide_pieces_err_by_no_more_than_is_said(
    sigma, steps, c, end, count, nodes, monkeypatch
):
    for name, value in {"_FEWEST": nodes, "_MOST": nodes, "_HALF": 0.25}.items():
        monkeypatch.setattr(along_line, name, value)
    s = points(c, end, count)
    found, exact = transform_along(s, sigma, steps), transform(s, sigma, steps)
    assert 1e-4 < max(shares(found, exact)) < 1  # it is the polynomial that errs


@pytest.mark.parametrize(("sigma", "steps", "c", "end", "count"), LINES[:3])
def test_errors_of_the_values_at_nodes_grow_by_no_more_than_is_said(
    sigma, steps, c, end, count, monkeypatch
):
    """Each value is moved as far as its error says, with signs that add up between nodes."""

    def moved(s, *rest):
        exact = transform(s, *rest)
        signs = (-1.0) ** np.arange(len(s))
        error, sized_error = 1e7 * exact.error, 1e7 * exact.sized_error
        plain, sized = exact.plain + signs * error, exact.sized + signs * sized_error
        return Transform(plain, sized, error, sized_error)

    s = points(c, end, count)
    monkeypatch.setattr(along_line, "transform", moved)
    found = transform_along(s, sigma, steps)
    assert 0.02 < max(shares(found, transform(s, sigma, steps))) < 1


def test_few_points_are_summed():
    s = points(1e-3, 2.0, 500)
    found, exact = transform_along(s, 1.0, 100), transform(s, 1.0, 100)
    assert all(np.array_equal(one, other) for one, other in zip(found, exact, strict=True))


def test_the_first_point_is_real_and_so_is_what_is_found():
    found = transform_along(points(1e-3, 2.0, 9000), 1.0, 100)
    assert abs(found.plain[0].imag) <= found.error[0]
    assert found.plain[0].real == pytest.approx(math.expm1(-1e-3), rel=1e-3)


def test_what_is_taken_off_counts_among_what_is_rounded():
    """Coefficients below half an ulp of it are all lost when they are added to it, one by one."""
    nodes, ulp = 40, 2.0**-52
    orders = np.arange(nodes)
    lost = np.full(nodes, 0.45 * ulp)  # coefficients
    waves = along_line._cosines(orders, nodes)
    value = 1 + np.rint(lost @ waves / ulp) * ulp
    exact = np.linalg.solve(waves.T, value - value[nodes // 2])
    x = np.cos(np.linspace(0.01, 0.3, 500))
    found, off = along_line._interpolated(
        np.asarray(value[None], np.complex128),
        np.zeros(1),
        np.zeros(1),
        np.zeros((1, nodes)),
        np.zeros(len(x), np.int64),
        x,
    )
    true = value[nodes // 2] + exact @ np.cos(np.multiply.outer(orders, np.arccos(x)))
    assert np.abs(found - true).max() <= off[0]
