"""The law of a sum of losses on a lattice: its transform once, its power for every count.

With all losses on a lattice, the law of their sum is the law of one raised to the power of the
steps under the discrete Fourier transform. Untilted, rounding would drown every delta below 1e-12.
So each law is tilted first: ``p e**(c loss) / K`` with c near the saddle, which moves the bulk of
the sum to where epsilon is. `Spectrum` holds the logarithm of the transform, with all its errors,
of the composition once over: each of these is multiplied by the number of times.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import logsumexp

from dpfunc.accounting.atoms import Atoms, lower_atoms
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.lattice_grid import SLOPES, Anchor, Grid, Part, log_moment, log_moments
from dpfunc.accounting.pair import ULP, Array, OutOfReachError, Pair

Complex = NDArray[np.complex128]

_LOG_NOTHING = -60.0  # of a transform's power that is not summed directly
_MOST_TERMS = 2e7


class Spectrum(NamedTuple):
    """The composition once over; every field but the grid is multiplied by the times."""

    grid: Grid
    log_power: Complex  # [n // 2 + 1] logarithm of the transform
    log_size: Array  # [n // 2 + 1] logarithm of a bound on its size
    rounding: Array  # [n // 2 + 1] relative, of its power
    off: Array  # [n // 2 + 1] error of the transform over its size, for Cauchy-Schwarz
    first: int  # index of the loss at place 0 of the circle
    offset: float  # the loss at index 0
    relative: float
    infinite: float
    shift: float
    log_moment: float  # log K
    rise: Array  # log of the moments of the tilted law at SLOPES
    fall: Array  # the same at -SLOPES


def spectrum(
    composition: Composition,
    grid: Grid,
    cut: Callable[[Pair, Array], Atoms],
    *,
    fewest: int = 1,
    sharp: bool = True,
) -> Spectrum:
    """The transform of the composition, with every pair cut down by ``cut``.

    Where ``sharp``, frequencies that count after ``fewest`` times over are summed directly, if
    these are not too many: slower, and with less rounding.
    """
    parts = [
        _on_lattice(pair, times, grid, anchor, cut)
        for (pair, times), anchor in zip(composition, grid.anchors, strict=True)
    ]
    n, c = grid.points, grid.c
    log_power = np.zeros(n // 2 + 1, dtype=np.complex128)
    log_size, rounding, weight = (np.zeros(n // 2 + 1) for _ in range(3))
    first, offset, relative = 0, 0.0, 0.0
    for part in parts:
        times, exponent = part.times, _log_tilted(part.atoms, c)
        top = int(np.argmax(exponent))
        places = (part.indices - part.indices[top]) % n
        mass = np.exp(exponent)
        g, off = _transform(mass, places, n)
        summed = np.zeros(n // 2 + 1)
        if sharp:
            g, off, summed = _sharpened(g, off, mass, places, times * fewest, n)
        log_one = _log1p(g)
        log_power.real += times * log_one.real  # apart, as infinity times 0 is NaN
        log_power.imag += times * log_one.imag
        size = np.abs(1 + g) + off + summed
        weight += (times * off / size) ** 2
        log_size += times * np.log(size)
        rounding += times * (5 * ULP * (np.abs(log_one) + np.abs(g) + 1) + summed / size)
        first += times * int(part.indices[top])
        offset += times * part.offset
        relative += times * ULP * (16 + float(np.abs(exponent[exponent > -700]).max()))
    k = log_moment(parts, c)
    return Spectrum(
        grid=grid,
        log_power=log_power,
        log_size=log_size,
        rounding=rounding,
        off=np.sqrt(len(parts) * weight),
        first=first,
        offset=offset,
        relative=relative,
        infinite=sum(part.times * part.atoms.infinite for part in parts),
        shift=sum(part.times * part.atoms.shift for part in parts),
        log_moment=k,
        rise=log_moments(parts, c + SLOPES) - k,
        fall=log_moments(parts, c - SLOPES) - k,
    )


def _transform(mass: Array, places: NDArray[np.int64], n: int) -> tuple[Complex, Array]:
    """The transform of the masses less 1, relative to its own size, and bounds on its error."""
    circle = np.zeros(n)
    np.add.at(circle, places, mass)
    circle[0] -= 1.0  # the transform is 1 + G, and G is known relative to its own size
    error = _fft_unit(n) * math.sqrt(n) * float(np.linalg.norm(circle)) + ULP
    return fft.rfft(circle), np.full(n // 2 + 1, error)


def _fft_unit(n: int) -> float:
    """An FFT errs by at most this, relative, in the 2-norm."""
    return 4 * ULP * math.log2(n)


def _sharpened(
    g: Complex, off: Array, mass: Array, places: NDArray[np.int64], times: int, n: int
) -> tuple[Complex, Array, Array]:
    """The transform summed directly where its power is not negligible, if that is not too often.

    An FFT errs in proportion to the root of its length. Where only few frequencies count, sums in
    their own right are sharper: an ulp or so of every term, added in pairs. Returns with them the
    2-norm error of the frequencies that are still the FFT's, and the error of each that is not.
    """
    summed = np.zeros_like(off)
    counts = np.flatnonzero(times * np.log(np.abs(1 + g) + off) > _LOG_NOTHING)
    if len(counts) * len(mass) > _MOST_TERMS:
        return g, off, summed
    off = off.copy()
    for chunk in np.array_split(counts, max(1, len(counts) * len(mass) // 500_000)):
        turn = (np.multiply.outer(chunk, places) + n // 2) % n - n // 2  # exact, around 0
        angle = turn * (2 * math.pi / n)
        half = np.sin(angle / 2)
        g[chunk] = -2 * (mass * half * half).sum(axis=1) - 1j * (mass * np.sin(angle)).sum(axis=1)
        size = (mass * np.abs(angle)).sum(axis=1)
        off[chunk], summed[chunk] = 0.0, ULP * (16 + math.log2(len(mass))) * size + ULP
    return g, off, summed


def _on_lattice(
    pair: Pair, times: int, grid: Grid, anchor: Anchor, cut: Callable[[Pair, Array], Atoms]
) -> Part:
    """The pair cut down to nodes on the lattice, close together where its own nodes are."""
    wanted = pair.nodes(grid.nodes, grid.tail)
    end, offset = anchor
    place = (wanted - offset) / grid.step
    # Between two wanted nodes the gaps are the largest power of two that fits: neighbouring gaps
    # then hardly differ, which `lower_atoms` needs to bring ratios onto nodes.
    gap = 2 ** np.floor(np.log2(np.maximum(np.diff(place), 1.0))).astype(np.int64)
    starts = np.floor(place[:-1] / gap).astype(np.int64)
    counts = np.ceil(place[1:] / gap).astype(np.int64) - starts + 1
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    index = np.unique(np.repeat(gap, counts) * (np.repeat(starts, counts) + inside))
    if cut is lower_atoms:  # merged cells lie inside the losses, the ends that dominate outside
        index = index[index * end <= 0]
    return Part(cut(pair, offset + index * grid.step), index, offset, times)


def _log_tilted(atoms: Atoms, c: float) -> Array:
    """Logarithms of the tilted probabilities."""
    with np.errstate(divide="ignore"):
        exponent = np.log(atoms.p) + c * atoms.losses
    total = float(logsumexp(exponent))
    if not -math.inf < total < math.inf:
        raise OutOfReachError
    return np.asarray(exponent - total)


def _log1p(g: Complex) -> Complex:
    x, y = g.real, g.imag
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(x * (2 + x) + y * y, -1.0)) / 2 + 1j * np.arctan2(y, 1 + x)


def norm(half: Array) -> float:
    """The 2-norm of a spectrum, given its half."""
    return math.sqrt(2) * float(np.linalg.norm(half))
