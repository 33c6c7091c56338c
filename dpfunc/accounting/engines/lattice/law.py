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
from scipy.special import logsumexp

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.lattice.circle import Tilted, transformed
from dpfunc.accounting.engines.lattice.fitting import Anchor
from dpfunc.accounting.engines.lattice.grid import (
    Grid,
    Part,
    log_moment,
    log_moments,
)
from dpfunc.accounting.engines.lattice.kernel import Complex, Indices, Kernel, kernel
from dpfunc.accounting.engines.lattice.listed import ends_of_parts, listed_losses
from dpfunc.accounting.engines.lattice.powers import log1p
from dpfunc.accounting.engines.lattice.rare import Rare, rare
from dpfunc.accounting.pairs.atoms import Atoms, lower_atoms
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError, Pair

_LOG_NOTHING = -46.0  # of a power whose logarithm is not kept, next to the largest
_LOG_LITTLE = -18.0  # of a power that is not worth a sum in its own right
_MOST_TERMS = 2e7  # of all sums
_GROUP = 16  # terms that are added by a product of matrices
_AT_ONCE = 2**11  # terms of each frequency
_MOST_SPARSE = 4  # products for each frequency
_UNDERFLOW = 1e-300  # of terms that have no float


class Spectrum(NamedTuple):
    """The composition once over; every field but the first two is multiplied by the times."""

    grid: Grid
    kernel: Kernel
    log_size: Array  # [n // 2 + 1] logarithm of a bound on the size of the transform
    log_power: Complex  # [k] logarithm of the transform, at the first frequencies
    rounding: Array  # [k] relative, of its power
    off: Array  # [k] error of the transform over its size, for Cauchy-Schwarz
    first: int  # index of the loss at place 0 of the circle
    offset: float  # the loss at index 0
    relative: float
    log_finite: float  # logarithm of the probability of a finite loss
    shift: float
    log_moment: float  # log K
    rise: Array  # log of the moments of the tilted law at the slopes of the grid
    fall: Array  # the same on the other side
    rare: Rare | None  # what there is beside a bulk that no answer sees, where that is rare


class _Transform(NamedTuple):
    less_one: Complex  # [n // 2 + 1] the transform less 1, relative to its own size
    off: Array  # [n // 2 + 1] the 2-norm of its error, where it is an FFT
    summed: Array  # [n // 2 + 1] its error, where it is a sum in its own right
    size: Array  # [n // 2 + 1] a bound on the size of the transform


def spectrum(
    composition: Composition,
    grid: Grid,
    cut: Callable[[Pair, Array], Atoms],
    *,
    fewest: int = 1,
    most: int = 1,
    sharp: bool = True,
    weights: Kernel | None = None,
) -> Spectrum:
    """The transform of the composition, with every pair cut down by ``cut``.

    It is for ``fewest`` to ``most`` times over. What does not count for the fewest has a bound
    alone.
    Where ``sharp``, the first of those that count are summed directly: slower, with less rounding.
    ``weights``: the kernel of the grid, where it is known.
    """
    parts = [
        _on_lattice(pair, times, grid, anchor, cut)
        for (pair, times), anchor in zip(composition, grid.anchors, strict=True)
    ]
    n, c, weights = grid.points, grid.c, weights or kernel(grid)
    worth = np.log(weights.smooth / weights.smooth[0])
    tilted = [_tilted(part, grid) for part in parts]
    worthy = _worthy(parts, tilted, fewest, n, worth) if sharp else None
    kept = n // 2 + 1
    log_size, log_power = np.zeros(kept), np.zeros(kept, dtype=np.complex128)
    rounding, squares = np.zeros(kept), np.zeros(kept)
    for part, law in zip(parts, tilted, strict=True):
        times, (g, off, summed, size) = part.times, _transform(law, n, worthy)
        log_size += times * np.log(size)
        # Other parts can only make a power smaller: what does not count now will not.
        kept = min(kept, 1 + int(np.flatnonzero(fewest * log_size + worth > _LOG_NOTHING)[-1]))
        g, off, summed, size = g[:kept], off[:kept], summed[:kept], size[:kept]
        log_one = log1p(g)
        log_power.real[:kept] += times * log_one.real  # apart, as infinity times 0 is NaN
        log_power.imag[:kept] += times * log_one.imag
        squares[:kept] += (times * off / size) ** 2
        rounding[:kept] += times * (_rounding_of_log(g, log_one) + summed / size)
    k = log_moment(parts, c)
    return Spectrum(
        grid=grid,
        kernel=weights,
        log_size=log_size,
        log_power=log_power[:kept],
        rounding=rounding[:kept],
        off=np.sqrt(len(parts) * squares[:kept]),
        first=sum(part.times * law.first for part, law in zip(parts, tilted, strict=True)),
        offset=math.fsum(part.times * part.offset for part in parts),
        relative=sum(part.times * law.relative for part, law in zip(parts, tilted, strict=True)),
        log_finite=sum(part.times * _log_finite(part.atoms) for part in parts),
        shift=sum(part.times * part.atoms.shift for part in parts),
        log_moment=k,
        rise=log_moments(parts, c + grid.slopes) - k,
        fall=log_moments(parts, c - grid.slopes) - k,
        rare=_rare(parts, tilted, grid, most),
    )


def _rare(parts: list[Part], tilted: list[Tilted], grid: Grid, most: int) -> Rare | None:
    """Bulks of losses up to that of the grid, and the rest."""
    if grid.bulk == -math.inf:
        return None
    laws = [
        (part.times, law, (grid.bulk - part.offset) / grid.step)
        for part, law in zip(parts, tilted, strict=True)
    ]
    return rare(laws, grid.points, most)


def _worthy(parts: list[Part], tilted: list[Tilted], fewest: int, n: int, worth: Array) -> Indices:
    """The first of the frequencies that count in the whole composition: not too many."""
    log_size = np.zeros_like(worth)
    for part, law in zip(parts, tilted, strict=True):
        log_size += fewest * part.times * np.log(_transform(law, n).size)
    counts = np.flatnonzero(log_size + worth > _LOG_LITTLE)
    return counts[: int(_MOST_TERMS / sum(len(law.mass) for law in tilted))]


def _tilted(part: Part, grid: Grid) -> Tilted:
    exponent, total = _log_tilted(part.atoms, grid.c)
    top = int(np.argmax(exponent))
    places = (part.indices - part.indices[top]) % grid.points
    # Each term of an exponent is rounded, and the terms may be much larger than their sum.
    counts = exponent > -700
    terms = np.abs(exponent) + 2 * np.abs(grid.c * part.atoms.losses) + 2 * abs(total)
    relative = ULP * (16 + float(terms[counts].max()))
    return Tilted(np.exp(exponent), part.indices, places, int(part.indices[top]), relative)


def _transform(law: Tilted, n: int, worthy: Indices | None = None) -> _Transform:
    """By an FFT, and by sums at the ``worthy`` frequencies."""
    circle = np.zeros(n)
    np.add.at(circle, law.places, law.mass)
    circle[0] -= 1.0
    g, error = transformed(circle)
    error += ULP
    off, summed, size = np.full(len(g), error), np.zeros(len(g)), np.abs(1 + g) + error
    if worthy is not None and len(worthy):
        g[worthy], summed[worthy] = _summed(worthy, law.mass, law.places, n)
        off[worthy], size[worthy] = 0.0, np.abs(1 + g[worthy]) + summed[worthy] + ULP
    return _Transform(g, off, summed, size)


def _summed(frequencies: Indices, mass: Array, places: Indices, n: int) -> tuple[Complex, Array]:
    """The transform less 1 at some frequencies, summed directly, and bounds on the error of each.

    An FFT errs in proportion to the root of its length. Where only few frequencies count, sums in
    their own right are sharper: some ulp of every term, added in small groups and then in pairs.
    With a frequency as a multiple of a width and a rest, and E for ``exp(-i angle) - 1`` of each,
    that of the sum is ``E E' + E + E'``: a product of matrices, and two sums. The sizes of both E,
    at most 2, bound that of the product. In ulp of them: an E is good to 6, a product to 14 and
    ``sqrt(2)`` times a group for adding that up, both sums to 22 or less; and pairs of groups.
    """
    width = math.isqrt(int(frequencies[-1])) + 1
    multiples, of_multiple = np.unique(frequencies // width, return_inverse=True)
    rests, of_rest = np.unique(frequencies % width, return_inverse=True)
    if len(multiples) * len(rests) > _MOST_SPARSE * len(frequencies):  # most products are not asked
        halves = np.array_split(frequencies, 2)
        found = [_summed(half, mass, places, n) for half in halves]
        return np.concatenate([g for g, _ in found]), np.concatenate([off for _, off in found])
    from_0, size = (places + n // 2) % n - n // 2, np.zeros(len(frequencies))
    products, linear = [], []
    for start in range(0, len(mass), _AT_ONCE):  # what stays in the cache
        some, held = from_0[start : start + _AT_ONCE], mass[start : start + _AT_ONCE]
        one, one_size = _less_one(multiples * width, some, n)
        other, other_size = _less_one(rests, some, n)
        weighted = other * held
        groups = -(-len(held) // _GROUP)
        together = _in_groups(one, groups) @ _in_groups(weighted, groups).swapaxes(1, 2)
        products.append(_added_in_pairs(together))
        linear.append((one * held).sum(axis=1)[of_multiple] + weighted.sum(axis=1)[of_rest])
        size += (one_size @ held)[of_multiple] + (other_size @ held)[of_rest]
    g = _added_in_pairs(np.stack(products))[of_multiple, of_rest]
    g += _added_in_pairs(np.stack(linear))
    return g, ULP * (40 + 1.5 * _GROUP + 2 * math.log2(len(mass))) * size + _UNDERFLOW


def _less_one(frequencies: Indices, places: Indices, n: int) -> tuple[Complex, Array]:
    """``exp(-2 pi i frequency place / n) - 1``, and what its size is at most: ``[k, j]``."""
    turn = (np.multiply.outer(frequencies, places) + n // 2) % n - n // 2  # exact, around 0
    angle = turn * (2 * math.pi / n)
    half = np.sin(angle / 2)
    found = np.empty(angle.shape, np.complex128)
    found.real, found.imag = -2 * half * half, -np.sin(angle)
    return found, np.minimum(np.abs(angle), 2.0)


def _in_groups(values: Complex, groups: int) -> Complex:
    """``[rows, n]`` as ``[groups, rows, n of a group]``, with zeros at the end."""
    padded = np.zeros((len(values), groups * _GROUP), np.complex128)
    padded[:, : values.shape[1]] = values
    return padded.reshape(len(values), groups, _GROUP).swapaxes(0, 1)


def _added_in_pairs(values: Complex) -> Complex:
    """The sum over the first axis."""
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = np.concatenate([values[:half] + values[half : 2 * half], rest])
    return np.asarray(values[0])


def _on_lattice(
    pair: Pair, times: int, grid: Grid, anchor: Anchor, cut: Callable[[Pair, Array], Atoms]
) -> Part:
    """The pair cut down to nodes on the lattice, close together where its own nodes are."""
    end, offset = anchor
    listed = listed_losses(pair, grid.tail)
    wanted = pair.nodes(grid.nodes, grid.tail) if listed is None else listed
    place = (wanted - offset) / grid.step

    def cut_down(index: Indices) -> Part:
        nodes = np.asarray(offset + index * grid.step, dtype=np.float64)
        return Part(cut(pair, nodes), index, offset, times)

    if listed is None and len(place) > 1:
        sharp = (ends_of_parts(pair, grid.tail) - offset) / grid.step
        index = np.union1d(_indices(place), _around(sharp))
        if cut is lower_atoms:  # merged cells lie inside the losses, the ends that dominate outside
            index = index[index * end <= 0]
        return cut_down(index)
    # From below a loss alone is lowered to the place below it, and losses close to each other lose
    # less in a cell of several: the law with the larger moment says which they are.
    parts = [cut_down(_around(place))]
    if cut is lower_atoms and len(place) > 2:
        parts.append(cut_down(_indices(place)))
    return max(parts, key=lambda part: _log_tilted(part.atoms, grid.c)[1])


def _around(place: Array) -> Indices:
    """What is around each place: two on either side, infinite losses stay apart."""
    return np.unique(np.add.outer(np.floor(place + 1e-9).astype(np.int64), np.arange(-1, 3)))


def _indices(place: Array) -> Indices:
    """Places on the lattice, close together where the wanted ones are.

    Between two wanted places the gaps are the largest power of two that fits: neighbouring gaps
    then hardly differ, which `lower_atoms` needs to bring ratios onto nodes.
    """
    gap = 2 ** np.floor(np.log2(np.maximum(np.diff(place), 1.0))).astype(np.int64)
    starts = np.floor(place[:-1] / gap).astype(np.int64)
    counts = np.ceil(place[1:] / gap).astype(np.int64) - starts + 1
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.unique(np.repeat(gap, counts) * (np.repeat(starts, counts) + inside))


def _log_finite(atoms: Atoms) -> float:
    return math.log1p(-atoms.infinite) if atoms.infinite < 1 else -math.inf


def _log_tilted(atoms: Atoms, c: float) -> tuple[Array, float]:
    """Logarithms of the tilted probabilities, and of what they were divided by."""
    with np.errstate(divide="ignore"):
        exponent = np.log(atoms.p) + c * atoms.losses
    total = float(logsumexp(exponent))
    if not -math.inf < total < math.inf:
        raise OutOfReachError
    return np.asarray(exponent - total), total


def _rounding_of_log(g: Complex, log_one: Complex) -> Array:
    """What `log1p` and a product with it err by: ``|1 + g|**2 - 1`` to ulps of its terms."""
    of_square = np.abs(g) * (1 + np.abs(g)) / np.maximum(np.abs(1 + g) ** 2, 1e-300)
    return np.asarray(ULP * (6 * np.abs(log_one) + 4 * of_square))


def norm(half: Array) -> float:
    """The 2-norm of a spectrum, given its half."""
    return math.sqrt(2) * float(np.linalg.norm(half))
