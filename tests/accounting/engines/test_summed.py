"""Transforms that are summed directly: against exact sums, within the errors that they claim."""

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
    most = n // 2 if is_sparse else 30
    frequencies = np.unique(RNG.integers(0, most, size=12)) if is_sparse else np.arange(most)
    found, error = _summed(frequencies, mass, places, n)
    size = np.abs((places + n // 2) % n - n // 2)
    with mpmath.workdps(40):
        for one, off, k in zip(found, error, frequencies.tolist(), strict=True):
            turns = [mpmath.mpf(2 * k * p) / n for p in places.tolist()]
            terms = [m * (mpmath.expjpi(-x) - 1) for m, x in zip(mass.tolist(), turns, strict=True)]
            assert abs(one - complex(mpmath.fsum(terms))) <= off
            assert off <= 4e-14 * float(mass @ np.minimum(2 * np.pi * k * size / n, 4.0))
