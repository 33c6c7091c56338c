"""C5: sensitivities are never below the worst over all patterns, and are it where promised."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from dpfunc import correlated
from dpfunc.correlated import Participation, sensitivity
from dpfunc.strategies.records import matrix
from tests.strategies.patterns import largest, patterns

CASES = list(itertools.product(range(1, 5), range(1, 5)))
STEPS = 9
SIMPLE = {
    "identity": correlated.identity(steps=STEPS),
    "banded": correlated.banded(steps=STEPS, bands=3),
    "square root": correlated.square_root(steps=STEPS),
    "its inverse": correlated.square_root_inverse(steps=STEPS, bands=3),
    "lambda": correlated.lambda_cgd(steps=STEPS, lambda_=0.8),
    "fractional": correlated.fractional(steps=STEPS, bands=4, exponent=0.9),
    "buffered": correlated.Buffered(STEPS, (0.9, 0.4), (0.5, 0.3)),
}


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("spaced", [False, True])
def test_attained_where_columns_fall(name, spaced):
    c = matrix(SIMPLE[name])
    for most, apart in CASES:
        participation = Participation(most, apart, spaced)
        ours, true = sensitivity(SIMPLE[name], participation), largest(c, participation)
        assert true <= ours <= true * (1 + 1e-11)


@pytest.mark.parametrize("spaced", [False, True])
def test_an_upper_bound_for_any_signs_and_columns_that_rise(spaced):
    draw = np.random.default_rng(1)
    for seed in range(4):
        tail = draw.normal(size=draw.integers(1, 6))
        toeplitz = correlated.Toeplitz(7, (1.0, *tail.tolist()))
        c = np.tril(draw.normal(size=(7, 7)))
        np.fill_diagonal(c, np.abs(c.diagonal()) + 0.1)
        free = correlated.Dense(tuple(tuple(row[: t + 1].tolist()) for t, row in enumerate(c)))
        for most, apart in ((1, 1), (2, 1), (3, 2), (2, 3)):
            participation = Participation(most, apart, spaced)
            for strategy in (toeplitz, free):
                true = largest(matrix(strategy), participation, seed=seed)
                assert true <= sensitivity(strategy, participation)


def test_banded_is_exact_whatever_the_signs():
    """Columns of a pattern share no row: k times the norm, also where c rises."""
    strategy = correlated.Toeplitz(12, (1.0, -0.5, 1.5))
    ours = sensitivity(strategy, Participation(4, 3))
    assert ours**2 == pytest.approx(3 * 3.5 + 1 * 3.5, rel=1e-11)
    assert sensitivity(strategy, Participation(4, 2)) > ours  # they overlap


def test_dense_matrices_by_rows_are_at_most_a_little_above():
    draw = np.random.default_rng(5)
    c = np.tril(draw.uniform(size=(8, 8))) + np.eye(8)
    strategy = correlated.Dense(tuple(tuple(row[: t + 1].tolist()) for t, row in enumerate(c)))
    for most, apart in CASES:
        spaced = Participation(most, apart, evenly_spaced=True)
        assert sensitivity(strategy, spaced) == pytest.approx(largest(c, spaced), rel=1e-11)
        free = Participation(most, apart)
        assert largest(c, free) <= sensitivity(strategy, free) <= 1.15 * largest(c, free)


def test_more_participations_or_closer_ones_never_cost_less():
    for strategy in (*SIMPLE.values(), correlated.dense(steps=8)):
        for most, apart in CASES:
            here = sensitivity(strategy, Participation(most, apart))
            assert here <= sensitivity(strategy, Participation(most + 1, apart)) * (1 + 1e-12)
            assert here >= sensitivity(strategy, Participation(most, apart + 1)) * (1 - 1e-12)


def test_certified_against_fractions():
    """The worst pattern in exact numbers, of C as the floats of the record say."""
    d = correlated.fractional(steps=40, bands=5, exponent=0.7)
    exact = [Fraction(1)]
    for t in range(1, 40):
        parts = zip(d.coefficients[1:], reversed(exact[max(0, t - 4) : t]), strict=False)
        exact.append(-sum(Fraction(x) * c for x, c in parts))
    for most, apart in ((1, 1), (3, 4), (40, 1)):
        starts = [apart * j for j in range(most) if apart * j < 40]
        rows = [sum(exact[t - s] for s in starts if s <= t) for t in range(40)]
        square = sum(row**2 for row in rows)
        ours = Fraction(sensitivity(d, Participation(most, apart)))
        assert square <= ours**2 <= square * (1 + Fraction(1, 10**11))


def test_the_norm_of_a_column_is_rounded_up():
    strategy = correlated.Toeplitz(3, (1.0, 0.75, 0.3))
    exact = sum(Fraction(c) ** 2 for c in strategy.coefficients)
    assert exact <= Fraction(correlated.column_norm(strategy)) ** 2
    assert correlated.column_norm(strategy) == pytest.approx(math.sqrt(exact), rel=1e-12)


def test_a_separation_beyond_all_steps_is_one_participation():
    """And needs no memory for the steps in between."""
    for strategy in (*SIMPLE.values(), correlated.dense(steps=8)):
        far = sensitivity(strategy, Participation(3, 10**15))
        assert far == pytest.approx(correlated.column_norm(strategy), rel=1e-12)


def test_patterns_are_all_there():
    assert len(list(patterns(4, Participation(2, 2)))) == 1 + 4 + 3
    assert len(list(patterns(4, Participation(2, 2, evenly_spaced=True)))) == 1 + 4 + 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Participation(0, 1), "int most >= 1"),
        (lambda: Participation(1, 0), "int min_separation >= 1"),
        (lambda: sensitivity((1.0,), Participation(1, 1)), "expected a strategy"),
        (lambda: sensitivity(SIMPLE["banded"], (1, 1)), "expected a Participation"),
        (lambda: correlated.Toeplitz(3, (0.9,)), "the first of them 1"),
        (lambda: correlated.Toeplitz(1, (1.0, 0.5)), "at most 1 coefficients"),
        (lambda: correlated.Toeplitz(0, (1.0,)), "int steps from 1"),
        (lambda: correlated.Toeplitz(2, (1.0, math.nan)), "finite numbers"),
        (lambda: correlated.InverseToeplitz(3, (1.0, 0.5)), "no d above 0"),
        (lambda: correlated.InverseToeplitz(3, (1.0, -0.6, -0.4)), "a sum above 0"),
        (lambda: correlated.Buffered(3, (1.0,), (0.5,)), "decays between 0 and 1"),
        (lambda: correlated.Buffered(3, (0.5, 0.6), (0.5, 0.6)), "add up to at most 1"),
        (lambda: correlated.Dense(((1.0,), (1.0,))), "2 entries in row 1"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.parametrize(
    "strategy",
    [
        correlated.Toeplitz(4, (1.0, 1e200)),
        correlated.Dense(((1e-170,), (0.0, 1e-170))),
    ],
)
def test_squares_out_of_range_are_refused_and_no_infinite_noise(strategy):
    for call in (
        lambda: sensitivity(strategy, Participation(2, 1)),
        lambda: correlated.unamplified(1.0, strategy, Participation(2, 1)),
    ):
        with pytest.raises(ValueError, match="squares are finite and at least"):
            call()
