"""All sums of the losses of a composition, listed: exact, but for rounding.

Where the losses of a pair lie on one lattice, as those of randomized response do, its powers are
convolutions of positive numbers: each sum of n products errs by n ulp of itself, whatever its
size, so that no tilt and no transform is needed. Elsewhere all pairs of losses are added up, and
sums that agree to rounding are joined. A composition of pairs is the sum of theirs.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.finite.binomial import two_losses
from dpfunc.accounting.engines.finite.law import FiniteLaw
from dpfunc.accounting.pairs.finite_loss import FiniteLoss, finite_values, log_kept, lost
from dpfunc.accounting.pairs.lattice_step import lattice_step
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

_MOST_PRODUCTS = 4_000_000  # of a sum of two lists
_MOST_ON_LATTICE = 400_000_000  # of one convolution
_MOST_LISTED = 2_000_000
_TINY = 1e-307  # a product of probabilities below this may be rounded off as a whole


class _Listed(NamedTuple):
    """Losses and probabilities, given that none is infinite; and what is wrong with them."""

    losses: Array  # increasing
    p: Array
    error: float  # relative, of every p
    shift: float  # absolute, of every loss
    dropped: float  # probability


def listed(composition: Composition) -> FiniteLaw:
    """The law of all releases together; `OutOfReachError` where it has too many values."""
    total = _Listed(np.zeros(1), np.ones(1), 0.0, 0.0, 0.0)
    kept = []
    for pair, times in composition:
        if not isinstance(pair, FiniteLoss):
            raise OutOfReachError
        total = _sum(total, _power(pair, times))
        kept.append(times * log_kept(pair))
    positive = total.p > 0
    return FiniteLaw(
        losses=total.losses[positive],
        log_p=np.log(total.p[positive]),
        error=total.error * (1 + 1e-6) + 64 * ULP,  # of logarithms too, where they matter
        shift=total.shift,
        infinite=lost(math.fsum(kept)),
        dropped=total.dropped,
    )


def _power(pair: FiniteLoss, times: int) -> _Listed:
    """``times`` releases of one pair, given that no loss is infinite."""
    values = finite_values(pair)
    if not values:
        raise OutOfReachError  # everything is lost: nothing to list
    losses, p = (np.array(column) for column in zip(*values, strict=True))
    p = p / math.fsum(p)
    size = 1 + float(np.abs(losses).max())
    own, shift = ULP * (8 + size), 8 * ULP * size
    if len(values) == 1:
        return _Listed(times * losses, np.ones(1), 0.0, times * shift, 0.0)
    if (law := two_losses(pair, times)) is not None:
        return _Listed(law.losses, np.exp(law.log_p), law.error + own * times, law.shift, 1e-290)
    indices = lattice_step(losses)
    if indices is None:
        return _repeated(_Listed(losses, p, own, shift, 0.0), times)
    return _on_lattice(losses, p, indices, times, own, shift)


def _on_lattice(
    losses: Array, p: Array, indices: NDArray[np.int64], times: int, own: float, shift: float
) -> _Listed:
    """The power of a law on a lattice: by squaring, in convolutions."""
    count = int(indices[-1])
    if (count * times / 2) ** 2 > _MOST_ON_LATTICE or count * times > _MOST_LISTED:
        raise OutOfReachError
    once = np.zeros(count + 1)
    np.add.at(once, indices, p)  # losses that differ by rounding share a place
    own += ULP * (len(p) - len(np.unique(indices)))
    power, error, terms = np.ones(1), 0.0, 1
    for bit in bin(times)[2:]:
        factors = (power, once) if bit == "1" else (power,)
        for factor in factors:
            terms += len(power)
            error = error * (2 if factor is power else 1) + (0 if factor is power else own)
            error += ULP * (2 + min(len(power), len(factor)))
            power = np.convolve(power, factor)
    step = (losses[-1] - losses[0]) / count
    off = float(np.abs(losses - losses[0] - step * indices).max())
    sums = times * losses[0] + step * np.arange(len(power))
    moved = times * (shift + off) + 8 * ULP * float(np.abs(sums).max())
    return _Listed(sums, power, error, moved, terms * count * _TINY)


def _repeated(law: _Listed, times: int) -> _Listed:
    """The power of any law: by squaring, in sums of all with all."""
    power = law
    for bit in bin(times)[3:]:
        power = _sum(power, power)
        if bit == "1":
            power = _sum(power, law)
    return power


def _sum(one: _Listed, other: _Listed) -> _Listed:
    """The law of the sum of two independent losses."""
    if len(one.losses) * len(other.losses) > _MOST_PRODUCTS:
        raise OutOfReachError
    sums = np.add.outer(one.losses, other.losses).ravel()
    products = np.multiply.outer(one.p, other.p).ravel()
    order = np.argsort(sums, kind="stable")
    sums, products = sums[order], products[order]
    size = float(np.abs(sums).max())
    starts = np.flatnonzero(np.diff(sums, prepend=-math.inf) > 64 * ULP * size)
    ends = np.append(starts[1:], len(sums)) - 1
    span = float((sums[ends] - sums[starts]).max())
    return _Listed(
        losses=sums[starts],
        p=np.add.reduceat(products, starts),
        error=one.error + other.error + ULP * (4 + int((ends - starts).max()) + 1),
        shift=one.shift + other.shift + span + 2 * ULP * size,
        dropped=one.dropped + other.dropped + len(sums) * _TINY,
    )
