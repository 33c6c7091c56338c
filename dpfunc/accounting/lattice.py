"""The lattice engine: losses on an equidistant grid, added by a tilted FFT. Serves every pair.

With all losses on a lattice, the law of their sum is the law of one raised to the power of the
steps under the discrete Fourier transform. Untilted, rounding would drown every delta below 1e-12.
So each law is tilted first: ``p e**(c loss) / K`` with c at the saddle, which moves the bulk of the
sum to where epsilon is. Then ``delta(epsilon) = K**T * sum over losses above epsilon of tilted
probability * e**(-c loss) * (1 - e**(epsilon - loss))`` loses nothing at 1e-12, nor at 1e-100.

Error: the discretisation is a bound in itself (`atoms`); what falls outside the window of the
transform is bounded by Chernoff's inequality and counted on both ends; and so is rounding, by
the 2-norm error of an FFT (Higham 2002, Accuracy and Stability, section 24.1).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import logsumexp

from dpfunc.accounting.atoms import Atoms, lower_atoms, upper_atoms
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.pair import ULP, Array, OutOfReachError, Pair

Complex = NDArray[np.complex128]

_MOST_POINTS = 2**22
_MOST_NODES = 60_000
_LOG_NOTHING = -60.0  # of a transform's power that is not summed directly
_MOST_TERMS = 2e7
_MOST_LOSS = 600.0  # of one release: exponentials overflow beyond
_LOG_MARGIN = 12.0  # by how much less than tol what lies outside the window counts
_MOST_EXCESS = 14.0  # exp of this times rounding is still little
_COARSE = 1200  # nodes of the law that plans the grid

_CUT = 1e-26  # weights below this are left out of sums, and counted as an error
_SLOPES = np.geomspace(1e-5, 1e6, 60)  # at which Chernoff's inequality is tried


class Law(NamedTuple):
    """The tilted law of the sum: what answers questions about delta near one epsilon."""

    c: float
    log_scale: float  # log K**T
    first: float  # the loss at index 0
    step: float
    p: Array  # [n] tilted probabilities
    error: float  # of each of them, by rounding
    outside: float  # tilted probability outside the window, which the transform wraps into it
    infinite: float  # probability of an infinite loss
    shift: float  # by how much all losses together may have to be moved outward
    relative: float  # error of all probabilities together


class Plan(NamedTuple):
    """The grid: losses of each pair are an offset of its own plus multiples of ``step``."""

    c: float
    step: float
    tol: float  # asked for
    points: int
    nodes: int  # per pair
    tail: float
    middle: float  # of the window
    epsilon: float  # about where the answer lies


class _Part(NamedTuple):
    atoms: Atoms
    indices: NDArray[np.int64]  # of the nodes on the lattice
    offset: float  # the loss at index 0
    times: int


def plan(
    composition: Composition, tol: float, *, log_delta: float = math.nan, epsilon: float = math.nan
) -> Plan:
    """A grid on which both ends come out about ``tol`` apart, relative to epsilon.

    Spreading a cell of width h adds about ``h**2 / 6`` to the variance of its loss, and merging it
    takes ``h**2 / 12``; a variance v moves epsilon by about ``c v / 2``. Give delta or epsilon, or
    both once both are known.
    """
    times = sum(n for _, n in composition)
    smallest = max(-600.0, log_delta) if log_delta < 0 else -60.0
    tail = max(1e-300, math.exp(smallest) * min(tol, 1e-5) * 1e-3 / times)
    coarse = [
        _Part(upper_atoms(pair, pair.nodes(_COARSE, tail)), np.zeros(0, np.int64), 0.0, n)
        for pair, n in composition
    ]
    saddle = _saddle(coarse, log_delta, epsilon)
    k = _log_moment(coarse, saddle)
    if math.isnan(epsilon):
        epsilon = (k - log_delta - math.log(saddle * (saddle + 1))) / saddle
    elif math.isnan(log_delta):
        log_delta = k - saddle * epsilon - math.log(saddle * (saddle + 1)) - 3.0
    c, low, high = _window(coarse, saddle, epsilon, log_delta, math.log(tol))
    step = math.sqrt(6 * tol * max(abs(epsilon), 0.1 / (saddle + 1)) / (times * (saddle + 1)))
    coarsest = (high - low) / (_MOST_POINTS - 64)
    most = max(float(np.abs(part.atoms.losses).max()) for part in coarse)
    if not (coarsest < min(100 * step, 1.0) and most < _MOST_LOSS):  # no answer worth having
        raise OutOfReachError
    step = max(step, coarsest)
    points = fft.next_fast_len(math.ceil((high - low) / step) + 16, real=True)
    count = min(_MOST_NODES, math.ceil(10 / math.sqrt(tol)))
    return Plan(c, step, tol, points, count, tail, (low + high) / 2, max(epsilon, 0.0))


def tilted_law(composition: Composition, grid: Plan, cut: Callable[[Pair, Array], Atoms]) -> Law:
    """The law of the whole composition, with every pair cut down by ``cut``."""
    parts = [_on_lattice(pair, n, grid, cut) for pair, n in composition]
    n, c = grid.points, grid.c
    unit = 4 * ULP * math.log2(n)  # an FFT errs by at most this, relative, in the 2-norm
    log_power = np.zeros(n // 2 + 1, dtype=np.complex128)
    log_size, rounding = np.zeros(n // 2 + 1), np.zeros(n // 2 + 1)
    weight = np.zeros(n // 2 + 1)
    first, start, relative = 0, 0.0, 0.0
    for atoms, index, offset, times in parts:
        exponent = _log_tilted(atoms, c)
        top = int(np.argmax(exponent))
        circle = np.zeros(n)
        np.add.at(circle, (index - index[top]) % n, np.exp(exponent))
        circle[0] -= 1.0  # the transform is 1 + G, and G is known relative to its own size
        g = fft.rfft(circle)
        fft_error = unit * math.sqrt(n) * float(np.linalg.norm(circle)) + ULP
        g, off = _sharpened(g, fft_error, np.exp(exponent), (index - index[top]) % n, times, n)
        log_one = _log1p(g)
        log_power.real += times * log_one.real
        log_power.imag += times * log_one.imag
        size = np.abs(1 + g) + off
        weight += (times * off / size) ** 2
        log_size += times * np.log(size)
        rounding += times * 4 * ULP * (np.abs(log_one) + np.abs(g) + 1)
        first += times * int(index[top])
        start += times * offset
        relative += times * ULP * (16 + float(np.abs(exponent[exponent > -700]).max()))
    total = fft.irfft(np.exp(log_power), n)
    # Each transform is off by a vector of 2-norm ``off``, which counts times * size**(times - 1)
    # (Cauchy-Schwarz, over the frequencies and over the parts).
    error = math.sqrt(len(parts)) * _norm(np.exp(log_size) * np.sqrt(weight)) / n
    error += 2 * float(np.exp(log_size) @ -np.expm1(-rounding)) / n
    error += unit * _norm(np.exp(log_size)) / math.sqrt(n)
    begin = math.ceil((grid.middle - start) / grid.step - n / 2)  # index of the window's first loss
    low = start + begin * grid.step
    return Law(
        c=c,
        log_scale=_log_moment(parts, c),
        first=low,
        step=grid.step,
        p=np.roll(total, first - begin),
        error=error,
        outside=_outside(parts, c, low, low + (n - 1) * grid.step),
        infinite=sum(part.times * part.atoms.infinite for part in parts),
        shift=sum(part.times * part.atoms.shift for part in parts),
        relative=relative,
    )


def _sharpened(
    g: Complex, off: float, mass: Array, index: NDArray[np.int64], times: int, n: int
) -> tuple[Complex, Array | float]:
    """The transform summed directly where its power is not negligible, if that is not too often.

    An FFT errs in proportion to the root of its length. Where only few frequencies count, sums in
    their own right are sharper: an ulp or so of every term, added in pairs. Also the error of each.
    """
    counts = np.flatnonzero(times * np.log(np.abs(1 + g) + off) > _LOG_NOTHING)
    if len(counts) * len(mass) > _MOST_TERMS:
        return g, off
    errors = np.full(len(g), off)
    for chunk in np.array_split(counts, max(1, len(counts) * len(mass) // 500_000)):
        turn = (np.multiply.outer(chunk, index) + n // 2) % n - n // 2  # exact, around 0
        angle = turn * (2 * math.pi / n)
        half = np.sin(angle / 2)
        g[chunk] = -2 * (mass * half * half).sum(axis=1) - 1j * (mass * np.sin(angle)).sum(axis=1)
        size = (mass * np.abs(angle)).sum(axis=1)
        errors[chunk] = ULP * (16 + math.log2(len(mass))) * size + ULP
    return g, errors


def log_delta_above(law: Law, epsilon: float) -> float:
    """The logarithm of an upper bound of delta, from atoms that bound from above."""
    kept, weight = _kept(law, epsilon - law.shift)
    log_scale = law.log_scale - law.c * (epsilon - law.shift) + law.relative
    value = max(0.0, kept) + law.error * weight + law.outside * math.exp(log_peak(law.c)) + _CUT
    infinite = math.log(law.infinite) if law.infinite > 0 else -math.inf
    return min(0.0, float(np.logaddexp(math.log(value) + log_scale, infinite)))


def log_delta_below(law: Law, epsilon: float) -> float:
    """The logarithm of a lower bound of delta, from atoms that bound from below."""
    kept, weight = _kept(law, epsilon + law.shift)
    value = kept - law.error * weight - law.outside * math.exp(log_peak(law.c))
    log_scale = law.log_scale - law.c * (epsilon + law.shift) - law.relative
    return math.log(value) + log_scale if value > 0 else -math.inf


def log_delta_interval(composition: Composition, epsilon: float, tol: float) -> tuple[float, float]:
    """Bounds of ``log delta``, about ``tol`` apart in terms of epsilon."""
    grid = plan(composition, tol, epsilon=epsilon)
    return (
        log_delta_below(tilted_law(composition, grid, lower_atoms), epsilon),
        log_delta_above(tilted_law(composition, grid, upper_atoms), epsilon),
    )


def epsilon_interval(composition: Composition, log_delta: float, tol: float) -> tuple[float, float]:
    """Bounds of the smallest epsilon >= 0 with ``log delta <= log_delta``.

    The grid is refined until they are within ``tol``, relative, or it reaches its largest size.
    """
    grid = plan(composition, tol, log_delta=log_delta)
    least, most = 0.0, math.inf
    for _ in range(4):
        above = tilted_law(composition, grid, upper_atoms)
        below = tilted_law(composition, grid, lower_atoms)
        guess = min(most, grid.epsilon)
        most = min(most, _least_safe(partial(log_delta_above, above), log_delta, guess, tol))
        if most < math.inf:
            least = max(least, _most_unsafe(partial(log_delta_below, below), log_delta, most, tol))
        if not tol * most < most - least < math.inf or grid.points >= 0.9 * _MOST_POINTS:
            break
        finer = 0.5 * grid.tol * min(1.0, tol * most / (most - least))
        try:
            grid = plan(composition, finer, log_delta=log_delta, epsilon=most)
        except OutOfReachError:
            break
    return least, most


def _least_safe(
    log_delta_at: Callable[[float], float], log_delta: float, guess: float, tol: float
) -> float:
    """The least epsilon >= 0, nearly, at which the upper bound proves the target."""
    step = 1e-3 * guess + 1e-9
    low = high = guess
    while log_delta_at(high) > log_delta:
        low, high, step = high, high + step, 2 * step
        if high > 1e12:
            return math.inf
    while low == high or log_delta_at(low) <= log_delta:
        if low <= 0:
            return 0.0
        low, high, step = max(0.0, low - step), low, 2 * step
    return _bisect(lambda e: log_delta_at(e) <= log_delta, high, low, tol)


def _most_unsafe(
    log_delta_at: Callable[[float], float], log_delta: float, most: float, tol: float
) -> float:
    """The largest epsilon, nearly, at which the lower bound disproves the target; 0 if none."""
    step, high, low = 0.25 * tol * most, most, most
    while log_delta_at(low) < log_delta:
        if low <= 0:
            return 0.0
        low, high, step = max(0.0, low - step), low, 2 * step
    return _bisect(lambda e: log_delta_at(e) >= log_delta, low, high, tol)


def _bisect(holds: Callable[[float], bool], good: float, bad: float, tol: float) -> float:
    """A place where it holds, next to one where it does not."""
    while abs(good - bad) > 0.02 * tol * good:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def log_peak(c: float) -> float:
    """``log max over u > 0 of exp(-c u) (1 - exp(-u))``: delta <= exp(K(c) - c epsilon) * this."""
    return c * math.log(c) - (c + 1) * math.log1p(c)


def _on_lattice(pair: Pair, times: int, grid: Plan, cut: Callable[[Pair, Array], Atoms]) -> _Part:
    """The pair cut down to nodes on the lattice, close together where its own nodes are."""
    wanted = pair.nodes(grid.nodes, grid.tail)
    end, offset = _anchor(pair, wanted, grid.step)
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
    return _Part(cut(pair, offset + index * grid.step), index, offset, times)


def _anchor(pair: Pair, wanted: Array, step: float) -> tuple[int, float]:
    """A loss to put the lattice on, that of the merged cell at the heavier end of the losses.

    Beyond a sharp end there is nothing to balance a cell with, so the cell itself has to be on the
    lattice: a fixed point, as its other edge is half a step away. The iteration stops on the side
    from which the inner neighbour can make up the difference. Also which end: -1, 1, or 0 if
    neither holds any mass.
    """
    low, high = float(wanted[0]), float(wanted[-1])
    p, *_ = pair.cells(np.array([low + step, max(high - step, low + 1.5 * step)]))
    if max(p[0], p[-1]) < 1e-9:
        return 0, low
    end = -1 if p[0] >= p[-1] else 1
    at = low + step / 2 if end < 0 else high - step / 2
    for _ in range(40):
        p, r, *_ = pair.cells(np.array([at - end * step / 2]))
        outer = 0 if end < 0 else -1
        if not (p[outer] > 0 and r[outer] > 0):
            break
        before, at = at, math.log(p[outer] / r[outer])
        if abs(at - before) <= 1e-13 * step:
            break
    return end, at


def _kept(law: Law, epsilon: float) -> tuple[float, float]:
    """Sums of ``exp(-c u) (1 - exp(-u))`` over losses ``epsilon + u``: with p, and without."""
    start = max(0, math.ceil((epsilon - law.first) / law.step))
    stop = min(len(law.p), start + math.ceil(-math.log(_CUT) / law.c / law.step))
    u = law.first + law.step * np.arange(start, stop) - epsilon
    weights = np.exp(-law.c * u) * -np.expm1(-u)
    return float(law.p[start:stop] @ weights), float(weights.sum())


def _log_tilted(atoms: Atoms, c: float) -> Array:
    """Logarithms of the tilted probabilities."""
    with np.errstate(divide="ignore"):
        exponent = np.log(atoms.p) + c * atoms.losses
    total = float(logsumexp(exponent))
    if not -math.inf < total < math.inf:
        raise OutOfReachError
    return np.asarray(exponent - total)


def _log_moment(parts: Sequence[_Part], c: float) -> float:
    return float(_log_moments(parts, np.array([c]))[0])


def _log_moments(parts: Sequence[_Part], c: Array) -> Array:
    """``log E[exp(c L)]`` of the sum, for every c."""
    total = np.zeros(len(c))
    for part in parts:
        kept = part.atoms.p > 0
        if not kept.any():
            raise OutOfReachError
        losses, log_p = part.atoms.losses[kept], np.log(part.atoms.p[kept])
        rows = max(1, 1_000_000 // len(losses))  # at a time, to save memory
        for i in range(0, len(c), rows):
            exponent = np.multiply.outer(c[i : i + rows], losses) + log_p
            top = exponent.max(axis=1)
            exponent -= top[:, None]
            total[i : i + rows] += part.times * (top + np.log(np.exp(exponent).sum(axis=1)))
    return total


def _log1p(g: Complex) -> Complex:
    x, y = g.real, g.imag
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(x * (2 + x) + y * y, -1.0)) / 2 + 1j * np.arctan2(y, 1 + x)


def _norm(half: Array) -> float:
    """The 2-norm of a spectrum, given its half."""
    return math.sqrt(2) * float(np.linalg.norm(half))


def _saddle(parts: Sequence[_Part], log_delta: float, epsilon: float) -> float:
    """The tilt that puts the bulk of the sum where epsilon is: any is valid."""
    low, high = -9.0, 12.0
    for _ in range(3):
        log_c = np.linspace(low, high, 48)
        c = np.exp(log_c)
        k = _log_moments(parts, c) - np.log(c * (c + 1))
        best = int(np.argmin((k - log_delta) / c if math.isnan(epsilon) else k - c * epsilon))
        low, high = log_c[max(0, best - 1)], log_c[min(47, best + 1)]
    return float(c[best])


def _window(
    parts: Sequence[_Part], saddle: float, epsilon: float, log_delta: float, log_tol: float
) -> tuple[float, float, float]:
    """A tilt, and where the sum under it lies but for what does not count.

    Tilted less than at the saddle, large losses are rarer and the window is smaller, but all that
    is lost to rounding and outside counts more, by the factor that delta is below its height.
    """
    best = saddle, -math.inf, math.inf
    for c in saddle * np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.05]):
        k = _log_moment(parts, c)
        excess = max(0.0, k - c * epsilon + log_peak(c) - log_delta)
        outside = log_tol - _LOG_MARGIN - excess
        up = (_log_moments(parts, c + _SLOPES) - k - outside) / _SLOPES
        down = (_log_moments(parts, c - _SLOPES) - k - outside) / _SLOPES
        low, high = -float(down.min()), float(up.min())
        if excess < _MOST_EXCESS and high - low < 0.95 * (best[2] - best[1]):
            best = float(c), low, high
    c, low, high = best
    margin = 0.02 * (high - low)
    return c, low - margin, high + margin


def _outside(parts: Sequence[_Part], c: float, low: float, high: float) -> float:
    """Chernoff's bound on the tilted probability outside the window."""
    k = _log_moment(parts, c)
    up = _log_moments(parts, c + _SLOPES) - k - _SLOPES * high
    down = _log_moments(parts, c - _SLOPES) - k + _SLOPES * low
    return math.exp(min(0.0, float(up.min()))) + math.exp(min(0.0, float(down.min())))
