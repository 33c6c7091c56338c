"""The grid of the lattice engine: its tilt, window and step, planned from a coarse law.

Everything here is a choice that any value of would be valid for: a poor one makes the interval
wider, never wrong. One grid can serve a composition repeated between ``fewest`` and ``most`` times.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.lattice.fitting import Anchor, anchor, fitted
from dpfunc.accounting.pairs.atoms import Atoms, upper_atoms
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError, Pair

MOST_POINTS = 3 * 2**20  # keeps the whole process below 500 MB
_SLOPES = np.geomspace(1e-5, 1e6, 60)  # at which Chernoff's inequality is tried, for losses near 1
_MOST_NODES = 60_000
_MOST_FALL = 300.0  # of the logarithm of a weight in one step
_MOST_LOSS = 600.0  # of one release: exponentials overflow beyond
_LOG_MARGIN = 12.0  # by how much less than tol what lies outside the window counts
_MOST_EXCESS = (9.0, 14.0, 30.0)  # exp of this times rounding is little, or little enough
_TILTS = (-9.0, 34.0)  # logarithms: losses of 1e-12 ask for tilts of 1e13
_MOST_DOUBLED = 40  # times that a step is
_EXPECTED_ABOVE = 0.9  # of an estimate of epsilon
_LEAST_APART = 4  # places of the lattice, in rounding errors of the largest
_LEAST_BULK = 2  # steps of the lattice
_COARSE = 1200  # nodes of the law that plans the grid


class Grid(NamedTuple):
    """Losses of each pair are an offset of its own plus multiples of ``step``."""

    c: float
    step: float
    tol: float  # asked for
    points: int
    nodes: int  # per pair
    tail: float
    middle: float  # of the window
    epsilon: float  # about where the answer lies
    log_delta: float  # the same; what is far below does not count
    bulk: float  # losses up to this in every release are no loss that an answer sees, most likely
    anchors: tuple[Anchor, ...]  # of every pair

    @property
    def slopes(self) -> Array:
        """At which Chernoff's inequality is tried around the tilt."""
        return slopes(self.c)


class Part(NamedTuple):
    """One pair of the composition, cut down to atoms."""

    atoms: Atoms
    indices: NDArray[np.int64]  # of the nodes on the lattice
    offset: float  # the loss at index 0
    times: int


class _Aim(NamedTuple):
    """Where the answer is expected: the saddle, epsilon and the logarithm of delta there."""

    saddle: float
    epsilon: float
    log_delta: float


def plan(
    composition: Composition,
    tol: float,
    *,
    log_delta: float = math.nan,
    epsilon: float = math.nan,
    fewest: int = 1,
    most: int = 1,
) -> Grid:
    """A grid on which both ends come out about ``tol`` apart, relative to epsilon.

    Spreading a cell of width h adds about ``h**2 / 6`` to the variance of its loss, and merging it
    takes ``h**2 / 12``; a variance v moves epsilon by about ``c v / 2``. Give delta or epsilon, or
    both once both are known. The composition is released ``fewest`` to ``most`` times over.
    """
    smallest = max(-600.0, log_delta) if log_delta < 0 else -60.0
    runs = most * sum(n for _, n in composition)
    tail = _power_of_ten(max(1e-300, math.exp(smallest) * min(tol, 1e-5) * 1e-3 / runs))
    once = [Part(_coarse(pair, tail), np.zeros(0, np.int64), 0.0, n) for pair, n in composition]
    many = _repeated(once, most)
    last = _aim(many, log_delta, epsilon)
    floor = _EXPECTED_ABOVE * (_of_one_release(many, log_delta) if math.isnan(epsilon) else epsilon)
    c, low, high = _window(many, last, math.log(tol))
    step = _step(many, last, tol)
    if fewest < most:
        few = _repeated(once, fewest)
        first = _aim(few, log_delta, epsilon)
        _, low_of_few, high_of_few = _span(few, c, first, math.log(tol))
        low, high = min(low, low_of_few), max(high, high_of_few)
        step = min(step, _step(few, first, tol))
    margin = 0.02 * (high - low)
    low, high = low - margin, high + margin
    coarsest = (high - low) / (MOST_POINTS - 64)
    largest = max(float(np.abs(part.atoms.losses).max()) for part in once)
    if not (coarsest < min(100 * step, 1.0) and largest < _MOST_LOSS):  # no answer worth having
        raise OutOfReachError
    step = max(min(step, 1.0), coarsest)
    pair, _ = max(composition, key=lambda released: released[1])
    step = max(coarsest, fitted(pair, _COARSE, tail, step))
    if step * c > _MOST_FALL:
        raise OutOfReachError
    points = fft.next_fast_len(math.ceil(max(high - low, 0.0) / step) + 16, real=True)
    count = min(_MOST_NODES, math.ceil(10 / math.sqrt(tol)))
    anchors = tuple(anchor(pair, count, tail, step) for pair, _ in composition)
    if step < _LEAST_APART * ULP * max(largest, *(abs(offset) for _, offset in anchors)):
        raise OutOfReachError  # two places of the lattice would be one float
    about = max(last.epsilon, 0.0)
    bulk = floor / runs if floor > _LEAST_BULK * step * runs else -math.inf
    return Grid(c, step, tol, points, count, tail, (low + high) / 2, about, smallest, bulk, anchors)


def _power_of_ten(tail: float) -> float:
    """The next one below: questions near each other, and the grids of one, plan by one law."""
    return 10.0 ** math.floor(math.log10(tail))


@lru_cache(maxsize=64)
def _coarse(pair: Pair, tail: float) -> Atoms:
    """The law that a grid is planned by."""
    return upper_atoms(pair, pair.nodes(_COARSE, tail))


def _of_one_release(parts: Sequence[Part], log_delta: float) -> float:
    """The epsilon of one release alone that has its share of delta: about that of all, or less."""
    found = 0.0
    for part in parts:
        losses, p, share = part.atoms.losses, part.atoms.p, math.exp(log_delta) / part.times
        size = np.exp(np.clip(losses, -300.0, 300.0))
        above = np.cumsum(p[::-1])[::-1], np.cumsum((p / size)[::-1])[::-1]
        delta = part.atoms.infinite + above[0] - size * above[1]
        beyond = losses[delta >= share]
        found = max(found, float(beyond[-1])) if len(beyond) else found
    return found


def log_peak(c: float) -> float:
    """``log max over u > 0 of exp(-c u) (1 - exp(-u))``: delta <= exp(K(c) - c epsilon) * this."""
    return -c * math.log1p(1 / c) - math.log1p(c)  # nothing cancels, however large c


def slopes(c: float) -> Array:
    """Tilts beside c: far beyond it, wherever it is."""
    return _SLOPES * max(1.0, c / 1e5)


def log_moments(parts: Sequence[Part], c: Array) -> Array:
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


def log_moment(parts: Sequence[Part], c: float) -> float:
    """`log_moments` at one c."""
    return float(log_moments(parts, np.array([c]))[0])


def _repeated(parts: Sequence[Part], times: int) -> list[Part]:
    return [part._replace(times=part.times * times) for part in parts]


def _aim(parts: Sequence[Part], log_delta: float, epsilon: float) -> _Aim:
    saddle = _saddle(parts, log_delta, epsilon)
    k = log_moment(parts, saddle)
    if math.isnan(epsilon):
        epsilon = (k - log_delta - math.log(saddle * (saddle + 1))) / saddle
    elif math.isnan(log_delta):
        log_delta = k - saddle * epsilon - math.log(saddle * (saddle + 1)) - 3.0
    return _Aim(saddle, epsilon, log_delta)


def _saddle(parts: Sequence[Part], log_delta: float, epsilon: float) -> float:
    """The tilt that puts the bulk of the sum where epsilon is: any is valid."""
    low, high = _TILTS
    for _ in range(3):
        log_c = np.linspace(low, high, 48)
        c = np.exp(log_c)
        k = log_moments(parts, c) - np.log(c * (c + 1))
        best = int(np.argmin((k - log_delta) / c if math.isnan(epsilon) else k - c * epsilon))
        low, high = log_c[max(0, best - 1)], log_c[min(47, best + 1)]
    return float(c[best])


def _step(parts: Sequence[Part], aim: _Aim, tol: float) -> float:
    """The step that adds as much variance as moves epsilon by ``tol``.

    A loss between two nodes adds the product of its distances to them, ``h**2 / 6`` on average. Of
    losses that are hardly apart, as most are where a record is hardly ever read, it is far less.
    """
    wanted = tol * max(abs(aim.epsilon), 0.1 / (aim.saddle + 1))
    times = sum(part.times for part in parts)
    step = math.sqrt(6 * wanted / (times * (aim.saddle + 1)))
    laws = [(part.times, *_law_off_lattice(part, aim.saddle)) for part in parts]
    for _ in range(_MOST_DOUBLED):
        wider = 2 * step
        if wider * max(1.0, aim.saddle) > 1:  # the weights of losses fall too fast for it
            break
        added = sum(
            n * float(p @ np.minimum(apart * wider, wider * wider / 6)) for n, p, apart in laws
        )
        if added * (aim.saddle + 1) > wanted:
            break
        step = wider
    return step


def _law_off_lattice(part: Part, c: float) -> tuple[Array, Array]:
    """The tilted probabilities of losses, and how far each is from where the lattice will be."""
    kept = part.atoms.p > 0
    losses = part.atoms.losses[kept]
    exponent = np.log(part.atoms.p[kept]) + c * losses
    p = np.exp(exponent - exponent.max())
    return p / p.sum(), np.minimum(np.abs(losses), losses - losses.min())


def _window(parts: Sequence[Part], aim: _Aim, log_tol: float) -> tuple[float, float, float]:
    """A tilt, and where the sum under it lies but for what does not count.

    Tilted less than at the saddle, large losses are rarer and the window is smaller, but all that
    is lost to rounding and outside counts more, by the factor that delta is below its height.
    """
    tilts = aim.saddle * np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.05])
    spans = [(float(c), *_span(parts, c, aim, log_tol)) for c in tilts]
    for most_excess in _MOST_EXCESS:
        best = aim.saddle, -math.inf, math.inf
        for c, excess, low, high in spans:
            if excess < most_excess and high - low < 0.95 * (best[2] - best[1]):
                best = c, low, high
        if best[2] < math.inf:
            break
    return best


def _span(parts: Sequence[Part], c: float, aim: _Aim, log_tol: float) -> tuple[float, float, float]:
    """How far delta is below its height under the tilt c, and where the sum lies."""
    k = log_moment(parts, c)
    excess = max(0.0, k - c * aim.epsilon + log_peak(c) - aim.log_delta)
    outside = log_tol - _LOG_MARGIN - excess
    beside = slopes(c)
    up = (log_moments(parts, c + beside) - k - outside) / beside
    down = (log_moments(parts, c - beside) - k - outside) / beside
    return excess, -float(down.min()), float(up.min())
