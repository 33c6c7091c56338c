"""Transforms that are summed directly: against exact sums, within the errors that they claim."""

import tracemalloc

import mpmath
import numpy as np
import pytest

from dpfunc.accounting.engines.lattice import law
from dpfunc.accounting.engines.lattice.law import _summed

RNG = np.random.default_rng(3)
# Points, places, how far they are spread, and the mass at place 0.
LAWS = [(97, 40, 30, 0.3), (5000, 300, 40, 1 - 1e-6), (2_000_000, 700, 400_000, 1 - 1e-9)]


def law_of(n, count, spread, at_0):
    places = np.unique((RNG.normal(size=count) * spread).astype(np.int64) % n)
    places = places[places != 0]
    mass = RNG.exponential(size=len(places)) ** 4
    return np.append(places, 0), np.append(mass * (1 - at_0) / mass.sum(), at_0)


@pytest.mark.parametrize("group", [1, 7, 16])
@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize(("n", "count", "spread", "at_0"), LAWS)
def test_sums_are_exact_within_their_errors(n, count, spread, at_0, is_sparse, group, monkeypatch):
    monkeypatch.setattr(law, "_GROUP", group)
    monkeypatch.setattr(law, "_AT_ONCE", 100)
    places, mass = law_of(n, count, spread, at_0)
    frequencies = np.unique(RNG.integers(0, n // 2, size=12)) if is_sparse else np.arange(30)
    found, error = _summed(frequencies, mass, places, n)
    size = np.abs((places + n // 2) % n - n // 2)
    with mpmath.workdps(40):
        for one, off, k in zip(found, error, frequencies.tolist(), strict=True):
            turns = [mpmath.mpf(2 * k * p) / n for p in places.tolist()]
            terms = [m * (mpmath.expjpi(-x) - 1) for m, x in zip(mass.tolist(), turns, strict=True)]
            assert abs(one - complex(mpmath.fsum(terms))) <= off
            most = float(mass @ np.minimum(2 * np.pi * k * size / n, 4.0))
            assert off <= 4e-14 * most + 1e-299


def test_frequencies_far_apart_take_no_more_memory_than_their_terms():
    """A product for each multiple and each rest would be one of 470 for each frequency."""
    n = 3_145_728
    places, mass = law_of(n, 300, 1000, 0.5)
    frequencies = np.unique(RNG.integers(0, n // 2, size=300))
    tracemalloc.start()
    found, error = _summed(frequencies, mass, places, n)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == len(error) == len(frequencies)
    assert peak < 2e7
    one_by_one = [_summed(frequencies[i : i + 1], mass, places, n)[0][0] for i in range(0, 300, 60)]
    assert np.abs(np.array(one_by_one) - found[:300:60]).max() <= 2 * error.max()


def test_masses_that_are_hardly_floats_have_an_error():
    found, error = _summed(
        np.array([1, 2]), np.array([1e-309, 1e-309]), np.array([1, 5]), 3_145_728
    )
    assert (error > 1e-301).all()
    assert (np.abs(found) < 1e-308).all()
