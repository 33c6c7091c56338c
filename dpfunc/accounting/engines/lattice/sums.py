"""Delta of a sum of losses on a lattice, read from its transform at the few frequencies that count.

Delta at a loss of the lattice is, but for a factor, the sum over losses u above it of the tilted
law times ``w(u) = exp(-c u) (1 - exp(-u))``. By Parseval's identity that is a sum over frequencies
of the transform of one release to the power of their number, times the transform of w, which is a
geometric series. Powers die out and w is smooth, so that a few hundred frequencies of a million
matter. The others are not forgotten: each of them is bounded.

Between two neighbouring losses of the lattice delta is linear in ``exp(epsilon)``, so that a chord
between bounds is a bound. That w is cut off where the window ends, and that sums on a circle wrap
around, is bounded by Chernoff's inequality.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.engines.lattice.bracket import bracketed
from dpfunc.accounting.engines.lattice.grid import log_peak
from dpfunc.accounting.engines.lattice.kernel import Complex, Indices, transform_of_kernel, turned
from dpfunc.accounting.engines.lattice.law import Spectrum, norm
from dpfunc.accounting.engines.lattice.powers import powers
from dpfunc.accounting.engines.lattice.rare import errors as rare_errors
from dpfunc.accounting.engines.lattice.rare import powers as rare_powers
from dpfunc.accounting.engines.lattice.rare import sizes as rare_sizes
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError

Side = Literal[1, -1]
ABOVE: Side = 1
BELOW: Side = -1

_MOST_AT_ONCE = 96  # step counts of a block
_MOST_RATIO = 1.5  # of the most to the fewest steps of a block
_LEFT_OUT = 1e-3  # of tol: how much the frequencies that are left out may move epsilon


class Read(NamedTuple):
    """Bounds of epsilon after several numbers of steps, and how much of that is rounding."""

    epsilon: Array  # [b]
    by_rounding: Array  # [b] about how far rounding moved them, relative


class Block(NamedTuple):
    """What answers questions about some numbers of steps near each other."""

    spectrum: Spectrum
    times: Array  # [b]
    start: Array  # [b] the loss at place 0 of the circle
    reach: int  # w is cut off after so many losses
    terms: Complex  # [b, k] of the sum, at place 0
    turn: Complex  # [k] what takes a place to the next
    bottom: Array  # [b] the first place that an answer may have
    rounding: float  # error of every sum by rounding
    beyond: float  # what all other frequencies have at most


def epsilons(
    spectrum: Spectrum,
    times: Sequence[int],
    log_delta: float,
    guesses: Array,
    side: Side,
) -> Read:
    """Bounds of epsilon after each of the increasing ``times``; `OutOfReachError` if none is found.

    From above, every epsilon is large enough for delta; from below, too small, or 0. ``guesses``
    are those for the fewest and the most. Neither they nor anything else that is chosen here can
    make a bound wrong.
    """
    found: list[Read] = []
    places, values = np.log([times[0], times[-1]]), guesses[[0, -1]]
    for some in _blocks(times):
        about = values[0] + _slope(places, values) * (np.log(some) - places[0])
        found.append(_read(spectrum, some, log_delta, about, side))
        if len(some) > 1:
            places, values = np.log(some[-2:])[::-1], found[-1].epsilon[-2:][::-1]
        else:
            places, values = _latest(np.log(some[0]), found[-1].epsilon[0], places, values)
    return Read(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def log_delta_at(spectrum: Spectrum, epsilon: float, side: Side) -> tuple[float, float]:
    """A bound of the logarithm of delta at ``epsilon``, after the composition once over.

    And by about how much rounding moved it, infinity where it left nothing.
    """
    about = np.array([epsilon])
    inner = epsilon - side * spectrum.shift
    for rarely in (True, False) if spectrum.rare else (False,):
        block = _block(spectrum, np.ones(1), about, 1e-16, rarely=rarely)
        place = np.floor((np.array([inner]) - block.start) / spectrum.grid.step).astype(np.int64)
        if place[0] >= block.bottom[0]:
            break
    here, following = _log_deltas(block, place, side)
    loss = float(_losses(block, place)[0])
    # Rounding moves the place on the chord to the safe side.
    share = math.expm1(inner - loss) / math.expm1(spectrum.grid.step) - side * 1e-9
    share = min(1.0, max(0.0, share))
    top = max(float(here[0]), float(following[0]))
    infinite = float(_infinite(spectrum, np.ones(1), side)[0])
    log_infinite = math.log(infinite) if infinite > 0 else -math.inf
    if top == -math.inf:
        return log_infinite, math.inf
    mean = (1 - share) * math.exp(here[0] - top) + share * math.exp(following[0] - top)
    finite = math.log(mean) + top if mean > 0 else -math.inf
    log_sum = top - spectrum.log_moment + spectrum.grid.c * loss
    by_rounding = block.rounding * math.exp(min(700.0, -log_sum))
    found = float(np.logaddexp(finite, log_infinite)) + side * 4 * ULP
    return min(0.0, found), by_rounding


def outside(spectrum: Spectrum, times: Array, low: Array, high: Array) -> Array:
    """Chernoff's bound on the tilted probability of losses up to ``low`` and from ``high`` on."""
    slopes = spectrum.grid.slopes
    with np.errstate(invalid="ignore"):
        up = np.multiply.outer(times, spectrum.rise) - np.multiply.outer(high, slopes)
        down = np.multiply.outer(times, spectrum.fall) + np.multiply.outer(low, slopes)
    either = [np.exp(np.minimum(np.nanmin(each, axis=1), 0.0)) for each in (up, down)]
    return np.asarray(either[0] + either[1])


def _infinite(spectrum: Spectrum, times: Array, side: Side) -> Array:
    """A bound of the probability that one of the losses is infinite."""
    chance = -np.expm1(times * spectrum.log_finite)
    return np.asarray(chance * (1 + 8 * ULP if side > 0 else 1 - 32 * ULP))


def _blocks(times: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    start = 0
    while start < len(times):
        stop = start + 1
        while (
            stop < len(times)
            and stop - start < _MOST_AT_ONCE
            and times[stop] <= _MOST_RATIO * times[start]
        ):
            stop += 1
        yield np.array(times[start:stop], dtype=np.float64)
        start = stop


def _slope(places: Array, values: Array) -> float:
    apart = float(places[1] - places[0])
    return float(values[1] - values[0]) / apart if apart else 0.0


def _latest(place: float, value: float, places: Array, values: Array) -> tuple[Array, Array]:
    """The latest place and another one where epsilon is known, for a line through both."""
    other = 1 if place == places[0] else 0
    return np.array([place, places[other]]), np.array([value, values[other]])


def _read(spectrum: Spectrum, times: Array, log_delta: float, about: Array, side: Side) -> Read:
    grid = spectrum.grid
    about = np.clip(about, 0.0, max(0.0, grid.middle + grid.points * grid.step / 4))
    target = np.full(len(times), log_delta)
    if spectrum.log_finite < 0:  # what is left of delta for finite losses
        lost = _infinite(spectrum, times, side) / math.exp(log_delta) * (1 + side * 8 * ULP)
        if np.any(lost >= 1):
            raise OutOfReachError
        target = target + np.log1p(-lost) * (1 + side * 4 * ULP)
        target -= side * 4 * ULP * abs(log_delta)
    if spectrum.rare:
        with suppress(OutOfReachError):
            found, place, bottom = _searched(spectrum, times, target, about, side, rarely=True)
            if np.all(place >= bottom):
                return found
    return _searched(spectrum, times, target, about, side, rarely=False)[0]


def _searched(
    spectrum: Spectrum, times: Array, target: Array, about: Array, side: Side, *, rarely: bool
) -> tuple[Read, Indices, Array]:
    """Where delta crosses its targets, at which places, and from which places on that holds."""
    grid = spectrum.grid
    for _ in range(3):
        wanted = target - times * spectrum.log_moment + grid.c * about  # log of the sums
        much = _LEFT_OUT * grid.tol * min(1.0, grid.c * max(float(about.min()), 1e-6))
        enough = much * math.exp(min(700.0, float(wanted.min())))
        block = _block(spectrum, times, about, enough, rarely=rarely)
        found, slope, size, place = _cross(block, target, about, side)
        if np.all(np.abs(found - about) * grid.c < 1):
            break
        about = found
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = block.rounding / size / np.maximum(slope * found, 1e-300)
    return Read(found, np.where(found > 0, moved, 0.0)), place, block.bottom


def _block(spectrum: Spectrum, times: Array, about: Array, enough: float, *, rarely: bool) -> Block:
    """All that some numbers of steps share, for epsilons ``about`` there.

    Frequencies are left out that have no more than ``enough`` together. Where ``rarely``, sums of
    the bulk alone are left out as well, and answers hold from the bottom on.
    """
    grid, sizes = spectrum.grid, spectrum.kernel
    fewest, most = times[0], times[-1]
    n, h, c = grid.points, grid.step, grid.c
    top = grid.middle + n * h / 2
    reach = int(min(n - 1, max(1, (top - float(about.max())) / h)))
    ends = math.exp(-c * reach * h), math.exp(-(c + 1) * reach * h)
    weight = sizes.smooth + ends[0] / sizes.near + ends[1] / sizes.far
    rare = spectrum.rare if rarely else None
    if rare:
        size = rare_sizes(rare, fewest, most)
    else:
        size = np.exp(np.maximum(fewest * spectrum.log_size, most * spectrum.log_size))
    largest = size * weight
    tail = np.append(np.cumsum((sizes.share * largest)[::-1])[::-1], 0.0)
    kept = max(2, int(np.searchsorted(-tail, -enough)))
    kept = min(kept, len(spectrum.log_power))
    per_term = ULP * (160 + 8 * len(times) + math.log2(kept))
    rounding = per_term * float((sizes.share * largest)[:kept].sum())
    if rare:
        raised, bottom = rare_powers(rare, times, kept), times * (rare.top - spectrum.first)
        error = rare_errors(rare, fewest, most)
        rounding += float((sizes.share * weight * error)[:kept].sum())
    else:
        raised, bottom = powers(spectrum.log_power[:kept], times), np.full(len(times), -math.inf)
        # The transform is off by a vector of 2-norm ``off`` (Cauchy-Schwarz), and by rounding.
        rounding += most * norm(largest[:kept] * spectrum.off[:kept]) / n
        # |exp(z) - 1| is at most |z| where no size grows, also where it is a phase that is off.
        relative = np.minimum(most * spectrum.rounding[:kept], 2.0)
        rounding += float((sizes.share * largest)[:kept] @ relative)
    turn = turned(kept, np.ones(1, dtype=np.int64), n)[0]
    transform = transform_of_kernel(grid, reach, ends, kept) * sizes.share[:kept]
    start = times * spectrum.offset + h * (times * spectrum.first)
    terms, beyond = raised * transform, float(tail[kept])
    return Block(spectrum, times, start, reach, terms, turn, bottom, rounding, beyond)


def _losses(block: Block, place: Indices) -> Array:
    return np.asarray(block.start + block.spectrum.grid.step * place)


def _log_deltas(block: Block, place: Indices, side: Side) -> tuple[Array, Array]:
    """Logarithms of bounds of delta at places of the circle and at the next ones.

    Without the part of infinite losses, and with all losses where the lattice has them.
    """
    spectrum, (n, h) = block.spectrum, (block.spectrum.grid.points, block.spectrum.grid.step)
    c = spectrum.grid.c
    here = block.terms * turned(len(block.turn), place, n)
    following = here.real * block.turn.real - here.imag * block.turn.imag
    losses = _losses(block, place)
    high = losses + block.reach * h
    apart = outside(spectrum, block.times, high - n * h, high)
    error = block.rounding + block.beyond + apart * math.exp(log_peak(c))
    log_scale = block.times * spectrum.log_moment - c * losses
    size = block.times * abs(spectrum.log_moment) + c * np.abs(losses) + 1
    slack = block.times * spectrum.relative + 8 * ULP * size
    sums = here.real.sum(axis=1), following.sum(axis=1)
    with np.errstate(divide="ignore"):
        logs = [np.log(np.maximum(s + side * error, error if side > 0 else 0.0)) for s in sums]
    return logs[0] + log_scale + side * slack, logs[1] + log_scale - c * h + side * slack


def _cross(
    block: Block, target: Array, about: Array, side: Side
) -> tuple[Array, Array, Array, Indices]:
    """Where the bounds cross their targets; slopes of log delta, sums and places there."""
    step, spectrum = block.spectrum.grid.step, block.spectrum
    shift = side * block.times * spectrum.shift

    def excess(place: Indices) -> tuple[Array, Array, Array]:
        here, following = _log_deltas(block, place, side)
        return here - target, following - target, _losses(block, place) + shift

    guess = np.rint((about - shift - block.start) / step).astype(np.int64)
    place, here, following = bracketed(excess, guess)
    slope = np.maximum(here - following, 0.0) / step
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        share = np.expm1(here) / (np.exp(following) * np.expm1(here - following))
    share = np.where(np.isfinite(share), share, (1 + side) / 2)
    share = np.clip(share * (1 + side * 1e-13) + side * 1e-15, 0.0, 1.0)
    losses = _losses(block, place)
    found = losses + shift + np.log1p(share * math.expm1(step))
    slack = 8 * ULP * (np.abs(block.start) + np.abs(losses - block.start) + np.abs(losses))
    c = spectrum.grid.c
    sums = np.exp(np.minimum(target - block.times * spectrum.log_moment + c * losses, 700.0))
    return np.maximum(found + side * slack, 0.0), slope, sums, place
