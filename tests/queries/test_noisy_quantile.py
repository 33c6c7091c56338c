"""The quantile is drawn with the probabilities of the exponential mechanism, exactly."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from mpmath.ctx_iv import MPIntervalContext
from scipy import stats

import dpfunc as dp
from dpfunc import queries
from dpfunc.queries.noisy_quantile import _distances, _place

VALUES, GRID = torch.tensor([1, 2, 3, 5, 8, 13]), [0, 2, 4, 6, 10, 20]
EXACT = [0.0800165574, 0.131925, 0.358609331, 0.217507554, 0.131925, 0.0800165574]


def place(u, off, epsilon):
    context = MPIntervalContext()
    context.prec = 200
    return _place(context, context.mpf(u), off, epsilon)


def test_the_steps_of_the_distribution_are_where_they_belong():
    off = _distances(VALUES, Fraction(1, 2), GRID)
    steps = np.cumsum(EXACT)
    for i, step in enumerate(steps[:-1]):
        assert place(step - 2e-9, off, 1.0) == i
        assert place(step + 2e-9, off, 1.0) == i + 1
    assert place(0.0, off, 1.0) == 0
    assert place(1 - 1e-15, off, 1.0) == len(GRID) - 1


def test_draws_follow_it():
    draws = [
        queries.quantile(VALUES, 0.5, grid=GRID, epsilon=1.0, key=dp.fold_in(dp.key(1), i))
        for i in range(600)
    ]
    counts = [draws.count(g) for g in GRID]
    assert stats.chisquare(counts, 600 * np.array(EXACT) / sum(EXACT)).pvalue > 1e-4


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 1.0])
def test_a_record_moves_each_distance_by_1_at_most(q):
    share = Fraction(q)
    for one in (-5.0, 2.0, 3.5, 99.0, float("nan"), float("inf")):
        before = _distances(VALUES.double(), share, GRID)
        after = _distances(torch.cat([VALUES.double(), torch.tensor([one]).double()]), share, GRID)
        moves = [abs(a - b) for a, b in zip(before, after, strict=True)]
        assert max(moves) <= max(share, 1 - share) <= 1
        if one != one:
            assert max(moves) == 0


def test_nothing_is_known_at_epsilon_0():
    draws = [
        queries.quantile(VALUES, 0.5, grid=[1, 2], epsilon=0.0, key=dp.fold_in(dp.key(2), i))
        for i in range(200)
    ]
    assert 60 < draws.count(1.0) < 140


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"q": 1.5}, ValueError, "0 <= q <= 1"),
        ({"epsilon": -1.0}, ValueError, "a finite epsilon"),
        ({"grid": []}, ValueError, "finite points"),
        ({"x": torch.ones(2, 2)}, TypeError, "numbers x"),
    ],
)
def test_what_has_no_answer_is_refused(options, error, reason):
    given = {"x": VALUES, "q": 0.5, "grid": GRID, "epsilon": 1.0, "key": dp.key(0)} | options
    x, q = given.pop("x"), given.pop("q")
    with pytest.raises(error, match=reason):
        queries.quantile(x, q, **given)
