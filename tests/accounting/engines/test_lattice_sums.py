"""Few frequencies, windows too narrow and wild guesses make bounds wider, never wrong."""

import math

import numpy as np
import pytest

from dpfunc.accounting import Gaussian, Laplace, Poisson, epsilon_bounds
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.lattice import sums as lattice_sums
from dpfunc.accounting.engines.lattice.grid import plan
from dpfunc.accounting.engines.lattice.law import _on_lattice, spectrum
from dpfunc.accounting.engines.lattice.sums import ABOVE, BELOW, epsilons, log_delta_at
from dpfunc.accounting.pairs.atoms import lower_atoms, upper_atoms

TIMES = [4, 5, 9, 10, 12]
DELTA = 1e-4
SIDES = [(upper_atoms, ABOVE), (lower_atoms, BELOW)]
EACH_SIDE = pytest.mark.parametrize(("cut", "side"), SIDES, ids=["above", "below"])
EACH_EVENT = pytest.mark.parametrize(
    "event", [Poisson(0.1, Gaussian(1.2)), Poisson(0.1, Laplace(2.0))], ids=repr
)


def grid_of(event, tol=1e-2):
    composition = pairs(event, "remove")[0]
    log_delta = math.log(DELTA)
    return composition, plan(composition, tol, log_delta=log_delta, fewest=4, most=12)


def exact_delta(composition, grid, cut, times, epsilon):
    """The convolution power of the atoms themselves, without tilt, transform or window."""
    part = _on_lattice(composition[0][0], 1, grid, grid.anchors[0], cut)
    once = np.zeros(np.ptp(part.indices) + 1)
    once[part.indices - part.indices.min()] = part.atoms.p
    law = np.ones(1)
    for _ in range(times):
        law = np.convolve(law, once)
    losses = times * part.offset + grid.step * (times * part.indices.min() + np.arange(len(law)))
    gain = np.maximum(0.0, -np.expm1(np.minimum(epsilon - losses, 0.0)))
    return float(law @ gain) + 1 - (1 - part.atoms.infinite) ** times


@EACH_EVENT
@EACH_SIDE
def test_delta_is_that_of_the_convolution(event, cut, side):
    composition, grid = grid_of(event)
    law = spectrum(composition, grid, cut)
    for epsilon in (0.0, 0.31, grid.epsilon):
        exact = exact_delta(composition, grid, cut, 1, epsilon)
        bound = math.exp(log_delta_at(law, epsilon, side)[0])
        assert side * bound >= side * exact * (1 - side * 1e-12)
        if epsilon == grid.epsilon or exact == 0:
            continue
        assert bound == pytest.approx(exact, rel=1e-5)


@EACH_EVENT
@EACH_SIDE
def test_delta_at_epsilon_is_the_target(event, cut, side):
    composition, grid = grid_of(event)
    found = epsilons(spectrum(composition, grid, cut), TIMES, math.log(DELTA), np.ones(2), side)
    for times, epsilon in zip(TIMES, found.epsilon, strict=True):
        exact = exact_delta(composition, grid, cut, times, epsilon)
        assert side * exact <= side * DELTA * (1 + side * 1e-10)
        assert exact == pytest.approx(DELTA, rel=1e-4)
    assert found.by_rounding.max() < 1e-9


@EACH_EVENT
@EACH_SIDE
@pytest.mark.parametrize("left_out", [1.0, 1e3])
def test_frequencies_that_are_left_out_count(event, cut, side, left_out, monkeypatch):
    composition, grid = grid_of(event)
    law = spectrum(composition, grid, cut)
    close = epsilons(law, TIMES, math.log(DELTA), np.ones(2), side).epsilon
    monkeypatch.setattr(lattice_sums, "_LEFT_OUT", left_out)
    wide = epsilons(law, TIMES, math.log(DELTA), close[[0, -1]], side).epsilon
    for times, epsilon in zip(TIMES, wide, strict=True):
        exact = exact_delta(composition, grid, cut, times, epsilon)
        assert side * exact <= side * DELTA * (1 + side * 1e-10)
    assert np.any(wide != close)


@EACH_EVENT
@EACH_SIDE
def test_what_lies_outside_a_narrow_window_counts(event, cut, side):
    composition, grid = grid_of(event)
    points = grid.points // 2
    narrow = grid._replace(points=points, middle=grid.epsilon)
    wide = epsilons(spectrum(composition, narrow, cut), TIMES, math.log(DELTA), np.ones(2), side)
    for times, epsilon in zip(TIMES, wide.epsilon, strict=True):
        exact = exact_delta(composition, grid, cut, times, epsilon)
        assert side * exact <= side * DELTA * (1 + side * 1e-10)


@EACH_SIDE
@pytest.mark.parametrize("guess", [0.0, 1e-3, 50.0])
def test_a_guess_only_starts_the_search(cut, side, guess):
    composition, grid = grid_of(Poisson(0.1, Gaussian(1.2)))
    law = spectrum(composition, grid, cut)
    near, wild = (
        epsilons(law, TIMES, math.log(DELTA), np.full(2, start), side).epsilon
        for start in (1.0, guess)
    )
    assert wild == pytest.approx(near, rel=1e-4)


@EACH_SIDE
def test_below_the_least_delta_there_is_nothing(cut, side):
    """Where delta at epsilon 0 is below the target already, epsilon is 0 from either side."""
    composition, grid = grid_of(Poisson(0.1, Gaussian(1.2)))
    found = epsilons(spectrum(composition, grid, cut), [4], math.log(0.9), np.ones(2), side)
    assert found.epsilon.tolist() == [0.0]


def test_atoms_at_both_ends_of_the_loss_are_on_the_lattice():
    """The loss of sampled Laplace noise has atoms at either end: both are kept from below."""
    for relation in ("remove", "add"):
        event = Poisson(0.1, Laplace(1.0)) * 100
        assert epsilon_bounds(event, delta=1e-5, relation=relation).width < 1e-5


def test_a_target_that_everything_meets_overflows_nothing():
    """What may be left out is an exponential of how far the target is above the height there."""
    composition, grid = grid_of(Poisson(0.1, Gaussian(1.2)))
    law = spectrum(composition, grid, lower_atoms, fewest=4, most=12)
    assert not epsilons(law, TIMES, 800.0, np.ones(2), BELOW).epsilon.any()
