"""L10: every error that the accountant counts may be a million times as large as it is.

Whatever a bound leaves out or rounds is so small that a bound which forgot it would look right. So
each is made a million times larger at its source, or more until it shows, by the constant that sets
it, or by moving what is computed as far as its error says. The interval has to hold the truth none
the less. Truths are the intervals of another engine, or those of tiny errors. And what holds of all
relations, filters and weights, whatever the engine.
"""

import math

import numpy as np
import pytest

from dpfunc.accounting import (
    ConcentratedFilter,
    Gaussian,
    GaussianFilter,
    Laplace,
    MixtureOfGaussians,
    Pair,
    Poisson,
    RenyiFilter,
    delta_bounds,
    epsilon_bounds,
    rdp,
)
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.contour import line
from dpfunc.accounting.engines.lattice import grid, law, refining, sums
from dpfunc.accounting.pairs.allocation import lognormal, series

MILLION = 1e6
LOG_MILLION = math.log(MILLION)
RUN = pairs(Poisson(0.1, Gaussian(2.0)) * 200, "remove")[0]
LOG_DELTA, EPSILON = math.log(1e-6), 4.0
TIGHT = contour.epsilon_interval(RUN, LOG_DELTA, contour.THOROUGH)
TIGHT_DELTA = contour.log_delta_interval(RUN, EPSILON, contour.THOROUGH)


def assert_hold_the_truth(ask_epsilon, ask_log_delta, width):
    """Both questions, about a run of which each answer is known to 1e-11."""
    for ask, truth in ((ask_epsilon, TIGHT), (ask_log_delta, TIGHT_DELTA)):
        lower, upper = ask()
        assert lower <= truth[1]
        assert upper >= truth[0]
        assert upper - lower < width


def by_contour(reach, width=1e-3):
    assert_hold_the_truth(
        lambda: contour.epsilon_interval(RUN, LOG_DELTA, reach),
        lambda: contour.log_delta_interval(RUN, EPSILON, reach),
        width,
    )


def by_lattice(width=1e-2):
    assert_hold_the_truth(
        lambda: refining.epsilon_interval(RUN, LOG_DELTA, 1e-6),
        lambda: refining.log_delta_interval(RUN, EPSILON, 1e-6),
        width,
    )


def test_the_tail_of_a_contour():
    by_contour(contour.QUICK._replace(log_small=contour.QUICK.log_small + 2 * LOG_MILLION))


def test_the_aliases_of_a_contour():
    by_contour(contour.QUICK._replace(log_alias=contour.QUICK.log_alias + 1.7 * LOG_MILLION))


@pytest.mark.parametrize("side", [-1, 1])
def test_the_moments_of_a_contour(monkeypatch, side):
    exact = line.log_moment

    def off(*args, **options):
        values, error = exact(*args, **options)
        return values + side * MILLION * error, MILLION * error

    monkeypatch.setattr(line, "log_moment", off)
    by_contour(contour.QUICK)


def test_what_lies_outside_the_window_of_a_lattice(monkeypatch):
    monkeypatch.setattr(grid, "_LOG_MARGIN", grid._LOG_MARGIN - 2 * LOG_MILLION)
    by_lattice()


def test_the_frequencies_that_a_lattice_leaves_out(monkeypatch):
    monkeypatch.setattr(sums, "_LEFT_OUT", MILLION * sums._LEFT_OUT)
    by_lattice(width=1.0)


class Rough:
    """An FFT that errs by as much as the bound, at the frequencies that count."""

    def __init__(self, exact):
        self.exact = exact

    def __call__(self, circle):
        found, error = self.exact(circle)
        some = min(40, len(found))
        noise = np.exp(2j * math.pi * np.random.default_rng(0).random(some))
        found[:some] += noise * MILLION * error / np.linalg.norm(noise) / math.sqrt(2)
        return found, MILLION * error


def test_the_rounding_of_a_transform(monkeypatch):
    monkeypatch.setattr(law, "transformed", Rough(law.transformed))
    monkeypatch.setattr(refining, "_MOST_ROUNDING", math.inf)  # no sharper sums
    by_lattice(width=2.0)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_errors_of_cells(monkeypatch, side):
    kind = type(RUN[0][0])
    exact = kind.cells

    def off(pair, nodes):
        cells = exact(pair, nodes)
        p_error, r_error = (MILLION * 1e-15 * each for each in (cells.p, cells.r))
        return cells._replace(
            p=cells.p + side * p_error,
            r=cells.r - side * r_error,
            p_error=cells.p_error + p_error,
            r_error=cells.r_error + r_error,
        )

    monkeypatch.setattr(kind, "cells", off)
    by_lattice(width=1e-2)


ALLOCATION = 1.0, 100, 4.0  # noise, steps, the largest ratio


@pytest.mark.parametrize(
    "sources",
    [
        {(series, "_LOG_ALIAS"): 2.6},
        {(series, "_LOG_END"): 3.3, (series, "_LOG_SMALL"): 3.3},
        {(lognormal, "_LOG_ACCURACY"): -2.9},
    ],
    ids=["aliases", "end", "transform"],
)
def test_the_series_of_a_random_allocation(monkeypatch, sources):
    x = np.linspace(0.5, 3.9, 60)
    truth = series.distribution(series.series(*ALLOCATION), x)
    for (module, name), times in sources.items():
        monkeypatch.setattr(module, name, getattr(module, name) + times * LOG_MILLION)
    rough = series.distribution(series.series(*ALLOCATION), x)
    for exact, off in zip(truth[:2], rough[:2], strict=True):
        assert np.all(np.abs(exact - off) <= truth[2] + rough[2])
    assert rough[2].max() < 1e-2


# One way round loses more than the other.
UNEVEN = [
    Poisson(0.05, Gaussian(0.8)) * 5,
    Poisson(0.3, Laplace(1.0)) * 3,
    Pair((0.7, 0.25, 0.05), (0.2, 0.3, 0.5)),
    Pair((0.2, 0.3, 0.5), (0.7, 0.25, 0.05)),
]
RELATIONS = ("add_or_remove", "remove", "add", "zero_out", "replace_one")


@pytest.mark.parametrize("event", UNEVEN, ids=repr)
def test_both_orders_are_the_worse_of_each(event):
    """Of moments, of epsilon and of delta; and the orders are not alike."""

    def moments_of(relation):
        return rdp(event, order=3.0, relation=relation)

    for ask in (
        moments_of,
        lambda relation: epsilon_bounds(event, delta=1e-3, relation=relation).upper,
        lambda relation: delta_bounds(event, epsilon=0.3, relation=relation).upper,
    ):
        either, remove, add = (ask(relation) for relation in RELATIONS[:3])
        assert either == max(remove, add)
        is_alike = ask is moments_of and not isinstance(event, Pair)  # of one formula for both
        assert is_alike or abs(remove - add) > 1e-4 * either


@pytest.mark.parametrize("relation", RELATIONS)
def test_filters_have_spent_at_least_the_epsilon_of_each_part(relation):
    parts = [Gaussian(4.0), Gaussian(3.0) * 2, Poisson(0.1, Gaussian(2.0)) * 5]
    both = parts[0] + parts[1]
    gaussian = GaussianFilter(target_epsilon=9.0, delta=1e-5, relation=relation)
    concentrated = ConcentratedFilter(target_epsilon=9.0, delta=1e-5, relation=relation)
    renyi = RenyiFilter(target_epsilon=9.0, delta=1e-5, order=8.0, relation=relation)
    asked = [(gaussian, both, parts[:2]), (concentrated, both, parts[:2])]
    if relation not in ("replace_one", "zero_out"):
        asked.append((renyi, both + parts[2], parts))
    else:
        asked.append((renyi, both, parts[:2]))
    for privacy, history, of_history in asked:
        spent = privacy.spent(history)
        for part in of_history:
            least = epsilon_bounds(part, delta=1e-5, relation=relation).lower
            assert 0 < least <= privacy.spent(part) <= spent


@pytest.mark.parametrize("off", [0.0, 5e-13, -5e-13, 1e-9, -1e-9, 0.01, -0.01, 0.5])
def test_weights_of_a_mixture_near_1_and_far_from_it(off):
    """Near 1 they are those of a law, and are taken for that; far from it they are refused."""
    weights = (0.4, 0.6 + off)
    if abs(off) > 1e-12:
        with pytest.raises(ValueError, match="MixtureOfGaussians: expected "):
            MixtureOfGaussians(1.0, (1.0, 3.0), weights)
        return
    found = epsilon_bounds(MixtureOfGaussians(1.0, (1.0, 3.0), weights), delta=1e-5)
    exact = epsilon_bounds(MixtureOfGaussians(1.0, (1.0, 3.0), (0.4, 0.6)), delta=1e-5)
    assert found.upper >= exact.lower * (1 - 1e-8)
    assert found.upper == pytest.approx(exact.upper, rel=1e-8)
