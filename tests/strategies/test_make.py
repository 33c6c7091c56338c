"""C14 and reference values: strategies are as good as they are known to be."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dpfunc import correlated
from dpfunc.correlated import Participation, errors, sensitivity
from dpfunc.strategies.banded_optimum import objective, query_weights
from dpfunc.strategies.dense_optimum import dual_bound
from dpfunc.strategies.few_numbers_optimum import as_fraction
from dpfunc.strategies.records import matrix

# Made by another implementation in NumPy, and in part by jax_privacy 1.0: numbers of the field.
REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())
SETTINGS = sorted(REFERENCE["strategies"])
SLOW = 100  # bands or steps: their optima take seconds


def as_dense(c):
    return correlated.Dense(tuple(tuple(row[: t + 1].tolist()) for t, row in enumerate(c)))


@cache
def made(name, steps, lam, apart, most):
    kind, _, number = name.partition("_")
    if name == "identity":
        return correlated.identity(steps=steps)
    if name == "square_root":
        return correlated.square_root(steps=steps, bits=None)
    if name == "square_root_restart":  # C begins anew in each epoch
        epoch = matrix(correlated.square_root(steps=apart, bits=None))
        return as_dense(np.kron(np.eye(most), epoch))
    if kind == "bisr":
        return correlated.square_root_inverse(steps=steps, bands=int(number))
    if kind == "lambda":
        return correlated.lambda_cgd(steps=steps, lambda_=lam)
    if kind == "banded":
        bands, *largest = number.removeprefix("toeplitz_").split("_")
        error = "max" if largest else "mean"
        return correlated.banded(steps=steps, bands=int(bands), error=error)
    return correlated.dense(steps=steps)


def place(key):
    steps, most, apart = map(int, re.match(r"n(\d+)_k(\d+)(?:_b(\d+))?", key).groups(default=0))
    return steps, Participation(most, apart or steps)


def compared(key):
    """What is known of a setting beside what we have: (squared sensitivity, mean, max error)."""
    (steps, participation), name = place(key), key.split("/")[1]
    known = REFERENCE["strategies"][key]
    if "tree" in name:
        spaced = Participation(participation.most, participation.min_separation, True)
        sens = correlated.tree_sensitivity(steps=steps, participation=spaced)
        found = correlated.tree_errors(steps=steps)
    else:
        lam = known.get("lam")
        strategy = made(name, steps, lam, participation.min_separation, participation.most)
        sens, found = sensitivity(strategy, participation), errors(strategy)
    return known, (sens**2, found.mean(), found.max())


EXACT = [k for k in SETTINGS if re.search(r"/(identity|square_root|bisr|lambda|tree_online)", k)]
OPTIMA = [k for k in SETTINGS if re.search(r"/(banded|dense)", k)]
QUICK = [k for k in OPTIMA if int((re.findall(r"toeplitz_(\d+)", k) or [9999])[0]) < SLOW]


def test_every_reference_is_used():
    trees = [k for k in SETTINGS if k.endswith("/tree")]  # with another estimate
    assert len(EXACT) + len(OPTIMA) + len(trees) == len(SETTINGS) > 140


@pytest.mark.parametrize("key", EXACT)
def test_exact_values(key):
    known, (square, mean, most) = compared(key)
    assert square == pytest.approx(known["sens2"], rel=1e-10)  # of which 8e-11 certify it
    assert (mean, most) == pytest.approx((known["mean_se"], known["max_se"]), rel=1e-12)
    roots = (square * mean) ** 0.5, (square * most) ** 0.5
    assert roots == pytest.approx((known["rmse"], known["root_max"]), rel=1e-10)


def check_optimum(key):
    known, (square, mean, most) = compared(key)
    largest = key.endswith("_max")
    ours = (square * (most if largest else mean)) ** 0.5
    best = known["root_max" if largest else "rmse"] if "rmse" in known else 0
    assert ours <= best * 1.0001
    assert ours >= best * 0.98
    assert ours**2 >= known.get("dual_bound", 0) * (1 - 1e-9)


@pytest.mark.parametrize("key", QUICK)
def test_optima(key):
    check_optimum(key)


@pytest.mark.nightly
@pytest.mark.parametrize("key", sorted(set(OPTIMA) - set(QUICK)))
def test_optima_with_many_bands(key):
    check_optimum(key)


def rmse(strategy, participation, workload=None, error="mean"):
    left = errors(strategy, workload)
    return float((left.mean() if error == "mean" else left.max()) ** 0.5) * sensitivity(
        strategy, participation
    )


@pytest.mark.parametrize("key", [k for k in REFERENCE["more"] if "bifr" in k])
def test_fractional_optima(key):
    steps, participation = place(key)
    bands = int(re.findall(r"bifr_(\d+)", key)[0])
    strategy = correlated.fractional(steps=steps, bands=bands, participation=participation)
    known = REFERENCE["more"][key]
    assert rmse(strategy, participation) <= known["rmse"] * (1 + 1e-9)
    assert -strategy.coefficients[1] == pytest.approx(known["gamma"], abs=1e-5)


BLT = ["n128_k4_b32/blt_3_mean", "n128_k16_b8/blt_2_mean"]


@pytest.mark.parametrize(
    "key",
    [k if k in BLT else pytest.param(k, marks=pytest.mark.nightly) for k in REFERENCE["blt"]],
)
def test_buffered_optima(key):
    """Never more than a thousandth above the best that is known, with at most as many buffers."""
    steps, participation = place(key)
    count, error = re.findall(r"blt_(\d+)_(mean|max)", key)[0]
    strategy = correlated.buffered(
        steps=steps, buffers=int(count), participation=participation, error=error
    )
    assert rmse(strategy, participation, error=error) <= REFERENCE["blt"][key]["root"] * 1.001


def test_momentum_and_a_schedule():
    for key in ("n128_k1/momentum0.9/banded_toeplitz_8", "n1024_k1/momentum0.9/banded_toeplitz_16"):
        (steps, once), known = place(key), REFERENCE["more"][key]
        bands, workload = int(key.rpartition("_")[2]), correlated.momentum(steps, beta=0.9)
        ours = correlated.banded(steps=steps, bands=bands, workload=workload)
        assert rmse(ours, once, workload) <= known["rmse"] * (1 + 1e-6)
        plain = rmse(correlated.banded(steps=steps, bands=bands), once, workload)
        assert plain == pytest.approx(known["rmse_of_prefix_optimal_coefs"], rel=1e-4)
        identity = rmse(correlated.identity(steps=steps), once, workload)
        assert identity == pytest.approx(known["rmse_identity"], rel=1e-9)


def test_the_best_matrix_for_a_schedule_has_a_dual_certificate():
    rates = np.linspace(1, 0, 33)[:32]
    workload = correlated.schedule(rates)
    strategy = correlated.dense(steps=32, workload=workload)
    once = Participation(1, 1)
    total = errors(strategy, workload).sum() * sensitivity(strategy, once) ** 2
    c = matrix(strategy)
    v = np.diag(np.linalg.inv(c) @ np.linalg.inv(c).T) ** 0  # any v is a bound: begin with ones
    x = c.T @ c
    v = np.diag(np.linalg.inv(x) @ (workload.T @ workload) @ np.linalg.inv(x)) * v
    assert dual_bound(workload, v) == pytest.approx(total, rel=1e-6)
    others = correlated.square_root(steps=32), correlated.identity(steps=32)
    assert all(rmse(other, once, workload) ** 2 * 32 > total for other in others)


@pytest.mark.nightly
@pytest.mark.parametrize("key", REFERENCE["dense_fixed_epoch"])
def test_the_best_matrix_for_epochs(key):
    steps, participation = place(key)
    spaced = Participation(participation.most, participation.min_separation, evenly_spaced=True)
    known = REFERENCE["dense_fixed_epoch"][key]
    ours = rmse(correlated.dense(steps=steps, epochs=spaced.most), spaced)
    assert ours <= (known["sens2"] * known["mean_se"]) ** 0.5 * 1.00001


def test_the_best_matrix_for_epochs_is_better_than_bands():
    spaced = Participation(4, 4, evenly_spaced=True)
    banded = rmse(correlated.banded(steps=16, bands=4), spaced)
    assert rmse(correlated.dense(steps=16, epochs=4), spaced) < 0.99 * banded


@pytest.mark.parametrize("error", ["mean", "max"])
def test_the_slope_by_finite_differences(error):
    c = np.array([1.0, 0.6, 0.3, -0.1])
    weights = query_weights(40, error)
    workload = correlated.momentum(40, beta=0.5, decay=0.99)
    value, slope = objective(c, workload, weights)
    for j in range(1, 4):
        moved = c + 1e-6 * (np.arange(4) == j)
        ahead, behind = (objective(m, workload, weights)[0] for m in (moved, 2 * c - moved))
        assert (ahead - behind) / 2e-6 == pytest.approx(slope[j - 1], abs=1e-6)
    left = errors(correlated.Toeplitz(40, tuple(c.tolist())), workload)
    exact = np.log(left.mean() if error == "mean" else left.max()) + np.log((c**2).sum())
    assert value == pytest.approx(exact, rel=1e-12)


def test_more_bands_are_never_worse():
    once = Participation(1, 1)
    costs = [rmse(correlated.banded(steps=256, bands=b), once) for b in (1, 2, 4, 8, 16, 32, 256)]
    assert costs == sorted(costs, reverse=True)


def test_buffers_as_a_fraction():
    strategy = correlated.Buffered(30, (0.9, 0.4), (0.5, 0.3))
    numerator, denominator = map(np.array, as_fraction(np.array([0.9, 0.4]), np.array([0.5, 0.3])))
    c = strategy.column()
    assert np.convolve(c, denominator)[:30] == pytest.approx(np.pad(numerator, (0, 27)), abs=1e-12)


def test_errors_by_the_definition():
    draw = np.random.default_rng(2)
    workload = draw.normal(size=(5, 12))
    for strategy in (
        correlated.banded(steps=12, bands=3),
        correlated.fractional(steps=12, bands=3, exponent=0.8),
        correlated.Buffered(12, (0.9,), (0.5,)),
        correlated.dense(steps=12),
    ):
        b = workload @ np.linalg.inv(matrix(strategy))
        assert errors(strategy, workload) == pytest.approx((b**2).sum(1), rel=1e-9)
        ones = np.tril(np.ones((12, 12)))
        assert errors(strategy) == pytest.approx(errors(strategy, ones), rel=1e-9)


def test_released_numbers_are_those_of_the_record():
    """Rounded at once: the sensitivity is that of the coefficients that noise is made with."""
    strategy = correlated.banded(steps=64, bands=5)
    assert all((c * 2**16).is_integer() for c in strategy.coefficients)
    finer = correlated.banded(steps=64, bands=5, bits=None)
    assert strategy.coefficients != finer.coefficients
    assert strategy.coefficients == pytest.approx(finer.coefficients, abs=2**-17)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: correlated.banded(steps=4, bands=5), "banded: expected 1 to 4 bands"),
        (lambda: correlated.banded(steps=4, bands=2, error="rms"), 'error "mean" or "max"'),
        (lambda: correlated.banded(steps=4, bands=2, bits=8), "bits from 12"),
        (lambda: correlated.banded(steps=4, bands=2, workload=np.ones(5)), "Toeplitz workload"),
        (lambda: correlated.lambda_cgd(steps=4, lambda_=1.0), "0 <= lambda_ < 1"),
        (lambda: correlated.fractional(steps=4, bands=2, exponent=1.2), "0 < exponent < 1"),
        (lambda: correlated.fractional(steps=4, bands=2, participation=3), "a Participation"),
        (lambda: correlated.buffered(steps=4, buffers=9), "1 to 6 buffers"),
        (lambda: correlated.dense(steps=9, epochs=2), "epochs that divide steps"),
        (lambda: correlated.momentum(4, beta=1.0), "beta < 1"),
        (lambda: correlated.schedule([np.inf]), "finite rates"),
        (lambda: errors(correlated.identity(steps=3), np.ones(4)), "workload of 3 steps"),
        (lambda: correlated.tree_errors(steps=3), "power of two"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
