"""Logarithms and powers of a transform, for many numbers of releases at once."""

import numpy as np

from dpfunc.accounting.engines.lattice.kernel import Complex
from dpfunc.accounting.pairs.privacy_loss import Array


def powers(log_power: Complex, times: Array) -> Complex:
    """``exp(times * log_power)``, each from the one before."""
    found = np.empty((len(times), len(log_power)), dtype=np.complex128)
    found[0] = _power(times[0], log_power)
    gaps = np.diff(times)
    factors = {gap: _power(gap, log_power) for gap in set(gaps.tolist())}
    for i, gap in enumerate(gaps.tolist()):
        np.multiply(found[i], factors[gap], out=found[i + 1])
    return found


def log1p(g: Complex) -> Complex:
    """``log(1 + g)``, relative to g where g is small; numpy's own forgets what is below 1e-16."""
    x, y = g.real, g.imag
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(x * (2 + x) + y * y, -1.0)) / 2 + 1j * np.arctan2(y, 1 + x)


def exp(log_size: Array, turn: Array) -> Complex:
    """``exp(log_size + i turn)``; they come apart, as infinity times a complex number is NaN."""
    size = np.exp(log_size)
    return np.asarray(size * np.cos(turn) + 1j * (size * np.sin(turn)))


def _power(times: float, log_power: Complex) -> Complex:
    return exp(times * log_power.real, times * log_power.imag)
