"""Strategies whose numbers are listed in the reference: errors and sensitivities of them as given.

`test_make` holds what our own searches find; here the numbers of others go into our formulas.
"""

import re

import numpy as np
import pytest

from dpfunc import correlated
from dpfunc.correlated import Participation, errors, sensitivity
from dpfunc.strategies.dense_optimum import dual_bound
from dpfunc.strategies.records import matrix
from tests.strategies.test_make import REFERENCE, as_dense, place, rmse

STRATEGIES, MORE = REFERENCE["strategies"], REFERENCE["more"]
BEST = "n128_k1_b128/dense_opt"
NORMALISED = [k for k in MORE if k.endswith("column_normalised")]


def toeplitz(steps, numbers):
    """Of coefficients with any first one: ours begin with 1, which changes no root error."""
    return correlated.Toeplitz(steps, tuple((np.array(numbers) / numbers[0]).tolist()))


def normalised(strategy):
    c = matrix(strategy)
    return as_dense(c / np.linalg.norm(c, axis=0))


def roots(strategy, participation):
    left = errors(strategy)
    return np.sqrt([left.mean(), left.max()]) * sensitivity(strategy, participation)


@pytest.mark.parametrize("key", [k for k in STRATEGIES if "coefs" in STRATEGIES[k]])
def test_listed_bands(key):
    (steps, participation), known = place(key), STRATEGIES[key]
    strategy, first = toeplitz(steps, known["coefs"]), known["coefs"][0]
    square = sensitivity(strategy, participation) ** 2 * first**2
    left = errors(strategy) / first**2
    want = known["sens2"], known["mean_se"], known["max_se"]
    assert (square, left.mean(), left.max()) == pytest.approx(want, rel=1e-10)
    found = roots(strategy, participation)
    assert found == pytest.approx((known["rmse"], known["root_max"]), rel=1e-10)


@pytest.mark.parametrize("key", [k for k in STRATEGIES if "coefs" in STRATEGIES[k]])
def test_listed_bands_are_what_our_search_finds(key):
    steps, numbers = place(key)[0], STRATEGIES[key]["coefs"]
    ours = correlated.banded(steps=steps, bands=len(numbers), bits=None).coefficients
    assert np.array(ours) / np.linalg.norm(ours) == pytest.approx(numbers, abs=1e-7)


@pytest.mark.nightly
@pytest.mark.parametrize("key", [k for k in STRATEGIES if "coefs_first8" in STRATEGIES[k]])
def test_the_first_of_many_bands_are_what_our_search_finds(key):
    steps, bands = place(key)[0], int(key.rpartition("_")[2])
    ours = np.array(correlated.banded(steps=steps, bands=bands, bits=None).coefficients)
    found = (ours / np.linalg.norm(ours))[:8]
    assert found == pytest.approx(STRATEGIES[key]["coefs_first8"], abs=1e-7)


@pytest.mark.parametrize("key", REFERENCE["blt"])
def test_listed_buffers(key):
    """Without those of no weight. A decay of 1, which we refuse, becomes the float below it."""
    (steps, participation), known = place(key), REFERENCE["blt"][key]
    pairs = zip(known["theta"], known["omega"], strict=True)
    kept = [(min(theta, 1 - 2.0**-53), omega) for theta, omega in pairs if omega > 1e-12]
    strategy = correlated.Buffered(steps, *map(tuple, zip(*kept, strict=True)))
    error = key.rpartition("_")[2]
    assert rmse(strategy, participation, error=error) == pytest.approx(known["root"], rel=1e-10)


@pytest.mark.parametrize("key", [k for k in STRATEGIES if k.endswith("/tree")])
def test_the_plain_tree(key):
    """Without the estimate from below an error is the number of nodes in a prefix."""
    (steps, participation), known = place(key), STRATEGIES[key]
    spaced = Participation(participation.most, participation.min_separation, evenly_spaced=True)
    square = correlated.tree_sensitivity(steps=steps, participation=spaced) ** 2
    nodes = np.array([t.bit_count() for t in range(1, steps + 1)])
    want = known["sens2"], known["mean_se"], known["max_se"]
    assert (square, nodes.mean(), nodes.max()) == pytest.approx(want, rel=1e-10)
    found = (square * nodes.mean()) ** 0.5, (square * nodes.max()) ** 0.5
    assert found == pytest.approx((known["rmse"], known["root_max"]), rel=1e-10)
    assert (correlated.tree_errors(steps=steps) <= nodes).all()


def test_the_square_root():
    known = MORE["square_root_exact"]
    numbers = correlated.square_root(steps=128, bits=None).coefficients
    fractions = [np.divide(*map(int, (c + "/1").split("/")[:2])) for c in known["coefs_first6"]]
    assert list(numbers[:6]) == fractions
    assert sum(c**2 for c in numbers) == pytest.approx(known["sum_sq_n128"], rel=1e-14)


@pytest.mark.parametrize("key", [k for k in NORMALISED if "banded" in k])
def test_bands_with_columns_of_norm_1(key):
    (steps, participation), known = place(key), MORE[key]
    numbers = STRATEGIES[key.removesuffix("_column_normalised")]["coefs"]
    strategy = normalised(toeplitz(steps, numbers))
    assert sensitivity(strategy, participation) ** 2 == pytest.approx(known["sens2"], rel=1e-10)
    found = roots(strategy, participation)
    assert found == pytest.approx((known["rmse"], known["root_max"]), rel=1e-10)


@pytest.mark.parametrize("key", [k for k in NORMALISED if "lambda" in k])
def test_lambda_with_columns_of_norm_1(key):
    (steps, apart), known = place(key), MORE[key]
    lam = float(re.findall(r"lambda_cgd_([.\d]+)", key)[0])
    strategy = normalised(correlated.lambda_cgd(steps=steps, lambda_=lam))
    spaced = Participation(apart.most, apart.min_separation, evenly_spaced=True)
    squares = [sensitivity(strategy, each) ** 2 for each in (spaced, apart)]
    assert squares == pytest.approx([known["sens2_fixed"], known["sens2_minsep_upper"]], rel=1e-10)
    assert roots(strategy, spaced)[0] == pytest.approx(known["rmse_fixed"], rel=1e-10)


@pytest.mark.parametrize("key", [k for k in MORE if "momentum" in k])
def test_bands_for_momentum(key):
    (steps, once), known = place(key), MORE[key]
    workload = correlated.momentum(steps, beta=0.9)
    listed = toeplitz(steps, known["coefs"])
    assert rmse(listed, once, workload) == pytest.approx(known["rmse"], rel=1e-10)
    bands = len(known["coefs"])
    ours = correlated.banded(steps=steps, bands=bands, workload=workload, bits=None)
    scaled = np.array(ours.coefficients) / np.linalg.norm(ours.coefficients)
    assert scaled == pytest.approx(known["coefs"], abs=1e-6)


def test_a_rate_that_falls_in_a_line():
    known, once = MORE["n128_k1/linear_cooldown"], Participation(1, 1)
    workload = correlated.schedule(1 - np.arange(128) / 128)
    identity = correlated.identity(steps=128)
    square_root = correlated.square_root(steps=128, bits=None)
    assert rmse(identity, once, workload) == pytest.approx(known["rmse_identity"], rel=1e-10)
    assert rmse(square_root, once, workload) == pytest.approx(known["rmse_square_root"], rel=1e-10)
    best = rmse(correlated.dense(steps=128, workload=workload), once, workload)
    assert best <= known["rmse_dense_opt"] * (1 + 1e-9)
    assert best >= known["dual"] * (1 - 1e-9)


def test_the_best_matrix_for_one_participation_reaches_its_listed_bound():
    (steps, once), known = place(BEST), STRATEGIES[BEST]
    strategy = correlated.dense(steps=steps)
    left, square = errors(strategy), sensitivity(strategy, once) ** 2
    assert square == pytest.approx(known["sens2"], rel=1e-10)
    assert left.mean() * square == pytest.approx(known["dual_bound"], rel=1e-8)
    assert left.max() * square == pytest.approx(known["max_se"], rel=1e-4)
    assert dual_bound(np.tri(steps), np.ones(steps)) / steps <= known["dual_bound"]
