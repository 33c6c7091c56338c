"""Tilted laws against exact arithmetic: what is said of their error holds at any tilt."""

from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

from dpfunc.accounting.engines.lattice import law
from dpfunc.accounting.engines.lattice.grid import Part
from dpfunc.accounting.pairs.atoms import Atoms


@pytest.mark.parametrize("c", [3.7, 1.3e5, 7.3e9])
def test_masses_are_as_exact_as_is_said(c):
    """Terms of an exponent may be much larger than the exponent, and are rounded as such."""
    indices = np.arange(40)
    losses = 0.9 + indices * (3.3 / c)
    p = np.exp(-0.3 * indices)
    atoms = Atoms(losses, p / p.sum(), 0.0, 0.0)
    grid = SimpleNamespace(c=c, points=4096)
    found = law._tilted(Part(atoms, indices, 0.9, 1), grid)
    with mpmath.workdps(60):
        exact = [
            mpmath.mpf(q) * mpmath.exp(mpmath.mpf(c) * mpmath.mpf(x))
            for q, x in zip(atoms.p.tolist(), losses.tolist(), strict=True)
        ]
        total = mpmath.fsum(exact)
        ratios = [float(m * total / e - 1) for m, e in zip(found.mass.tolist(), exact, strict=True)]
    error = max(map(abs, ratios))
    assert error <= found.relative
    assert found.relative <= 1e-14 * (100 + 8 * c)
