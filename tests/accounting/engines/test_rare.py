"""What is rare, apart: the bulk's own sums are left out only where an answer does not see them."""

import math

import numpy as np
import pytest

from dpfunc.accounting import Gaussian, Poisson
from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.engines.lattice import grid, law, rare, refining
from dpfunc.accounting.pairs import single

FAR = 1e8
# Hardly ever read, with little noise: one release is to blame, if any.
FIVE = pairs(Poisson(6e-7, Gaussian(0.38)) * 5, "remove")[0]
LOG_DELTA = math.log(1.3e-11)
TRUTH = refining.epsilon_interval(FIVE, LOG_DELTA, 1e-5)


def both_ways(monkeypatch, ask):
    """The answer as it is, and without anything left out: by sums of all."""
    left_out = ask()
    monkeypatch.setattr(law, "rare", lambda *_: None)
    return left_out, ask()


def test_the_same_epsilon_far_sharper(monkeypatch):
    found, summed = both_ways(monkeypatch, lambda: refining.epsilon_interval(FIVE, LOG_DELTA, 1e-5))
    assert summed[0] <= found[1]
    assert found[0] <= summed[1]
    assert found[1] / found[0] - 1 < 1e-5
    assert summed[1] / summed[0] - 1 > 2e-5


def test_the_same_delta(monkeypatch):
    found, summed = both_ways(monkeypatch, lambda: refining.log_delta_interval(FIVE, 0.9, 1e-3))
    assert summed[0] <= found[1]
    assert found[0] <= summed[1]
    assert found[1] - found[0] < 0.03


def test_two_releases_against_the_integral_over_one_of_them():
    """Delta of two is the mean, over the loss of one, of delta of the other: by quadrature."""
    pair = FIVE[0][0]
    epsilon, y = 0.8, np.linspace(-9.0, 14.0, 2000)
    losses, (p, _) = pair.loss(y), pair.cdfs(y)
    middle = (losses[1:] + losses[:-1]) / 2

    def one(at):
        return math.exp(single.log_delta_interval(pair, at)[1]) if at >= 0 else 1 - math.exp(at)

    far = middle > 1e-4
    mean = (1 - np.diff(p)[far].sum()) * one(epsilon)  # the other tells next to nothing
    mean += sum(m * one(epsilon - x) for m, x in zip(np.diff(p)[far], middle[far], strict=True))
    lower, upper = refining.log_delta_interval(((pair, 2),), epsilon, 1e-5)
    assert math.exp(lower) * (1 - 1e-2) <= mean <= math.exp(upper) * (1 + 1e-2)
    assert upper - lower < 1e-3


def test_nothing_is_left_out_that_an_answer_sees(monkeypatch):
    """Whatever a plan takes for the bulk: an answer below its sums is asked for again, with all."""
    truth, seen = TRUTH, refining.log_delta_interval(FIVE, 0.9, 1e-3)
    monkeypatch.setattr(grid, "_EXPECTED_ABOVE", 8.0)
    lower, upper = refining.epsilon_interval(FIVE, LOG_DELTA, 1e-2)
    assert lower <= truth[1]
    assert upper >= truth[0]
    lower, upper = refining.log_delta_interval(FIVE, 0.9, 1e-2)
    assert lower <= seen[1]
    assert upper >= seen[0]


def test_errors_of_its_transforms_far_larger(monkeypatch):
    truth = TRUTH
    exact = rare.transformed

    def rough(circle):
        found, error = exact(circle)
        noise = np.exp(2j * math.pi * np.random.default_rng(0).random(len(found)))
        most = FAR * error
        return found + noise * most / np.linalg.norm(noise) / math.sqrt(2), most

    monkeypatch.setattr(rare, "transformed", rough)
    lower, upper = refining.epsilon_interval(FIVE, LOG_DELTA, 1e-5)
    assert lower <= truth[1]
    assert upper >= truth[0]
    assert upper / lower - 1 < 1e-2


@pytest.mark.parametrize("times", [2, 9])
def test_powers_are_those_of_a_convolution(times):
    """On a small circle: all sums, less those of the bulk alone."""
    mass, indices = np.array([0.03, 0.95, 0.0199, 1e-4]), np.array([-1, 0, 1, 6])
    small = rare.Tilted(mass, indices, indices % 128, 0, 0.0)
    apart = rare.rare([(1, small, 1)], 128, times)
    once, bulk = np.zeros(128), np.zeros(128)
    once[indices], bulk[indices[:3]] = mass, mass[:3]
    whole = np.fft.fft(once) ** times - np.fft.fft(bulk) ** times
    found = rare.powers(apart, np.array([float(times)]), 65)[0]
    np.testing.assert_allclose(found, whole[:65], rtol=1e-9, atol=1e-15)
    assert np.all(np.abs(found) <= rare.sizes(apart, times, times) * (1 + 1e-9))
    assert np.all(rare.errors(apart, times, times) <= 1e-9 * rare.sizes(apart, times, times))
    assert apart.top == 1
