"""Powers of a transform, for many numbers of releases at once."""

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


def _power(times: float, log_power: Complex) -> Complex:
    size, turn = np.exp(times * log_power.real), times * log_power.imag
    return np.asarray(size * np.cos(turn) + 1j * (size * np.sin(turn)))
