"""Compositions between two others: where a pair itself is out of reach of every engine.

A random allocation to few steps, with little noise, or of a pair that is given, has no series that
ends early enough (`series`). It lies between two lists of losses (`spread`), and so does every
composition with it: what is proven from below about the one and from above about the other holds.
Where noise is too little even for lists, one release without sampling dominates it: P is a mean
over the steps, and delta is convex in P.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.pairs import single
from dpfunc.accounting.pairs.allocation.gaussian_allocation import GaussianAllocation
from dpfunc.accounting.pairs.allocation.given_allocation import GivenAllocation
from dpfunc.accounting.pairs.allocation.normal_ratio import NormalRatio
from dpfunc.accounting.pairs.allocation.spread import AllocationList
from dpfunc.accounting.pairs.finite_loss import NOTHING_TOLD
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import OutOfReachError, Pair

_FEW = 24  # steps: a series takes long for fewer, and lists are as exact
_LITTLE = 0.35  # noise, likewise
_TAIL = 1e-12  # of a release: what is beyond is not worth a longer series, which errs by as much
_OF_DELTA = 1e-3  # what a release may have in its tail, all together


class Enclosed(NamedTuple):
    """The composition dominates ``below``, and ``above`` dominates it."""

    below: Composition
    above: Composition


def enclosed(composition: Composition, delta: float = math.inf) -> Enclosed | None:
    """What encloses the composition; None where engines serve all of it.

    ``delta`` that is asked about, if it is known: far below it no series is exact.
    """
    releases = sum(times for _, times in composition)
    is_exact = releases == 1 or delta * _OF_DELTA / releases >= _TAIL
    return _enclosed(composition, [_ends(pair, is_exact) for pair, _ in composition])


def in_lists(composition: Composition) -> Enclosed | None:
    """The same where engines do serve it, but not well; None where it has no random allocation.

    A series knows a tail of 1e-12 and less hardly at all.
    """
    ends = [_listed(p) if isinstance(p, GaussianAllocation) else None for p, _ in composition]
    return _enclosed(composition, ends)


def _enclosed(
    composition: Composition, ends: Sequence[tuple[Pair, Pair] | None]
) -> Enclosed | None:
    if all(end is None for end in ends):
        return None
    below = [(end[0] if end else p, n) for end, (p, n) in zip(ends, composition, strict=True)]
    above = [(end[1] if end else p, n) for end, (p, n) in zip(ends, composition, strict=True)]
    return Enclosed(_joined(below), _joined(above))


def log_delta_by_series(composition: Composition, epsilon: float) -> tuple[float, float] | None:
    """Bounds of ``log delta`` of one allocation whose series is short there; None for others.

    They are a rounding error apart, which two lists never are.
    """
    pair = _alone(composition)
    if pair is None or not pair.is_quick(epsilon):
        return None
    with suppress(OutOfReachError):
        return single.log_delta_interval(pair, epsilon)
    return None


def epsilon_by_series(
    composition: Composition, log_delta: float, between: tuple[float, float]
) -> tuple[float, float] | None:
    """The same for epsilon, which is known to lie between two values."""
    pair = _alone(composition)
    if pair is None or not between[1] < math.inf or not all(map(pair.is_quick, between)):
        return None
    with suppress(OutOfReachError):
        return single.epsilon_interval(pair, log_delta, between)
    return None


def _alone(composition: Composition) -> GaussianAllocation | None:
    """The allocation, where the composition is one and no more."""
    pair, times = composition[0]
    is_alone = len(composition) == 1 and times == 1
    return pair if is_alone and isinstance(pair, GaussianAllocation) else None


def _ends(pair: Pair, is_exact: bool) -> tuple[Pair, Pair] | None:
    if isinstance(pair, GivenAllocation):
        return pair.ends()
    if not isinstance(pair, GaussianAllocation) or (is_exact and _is_served(pair)):
        return None
    return _listed(pair)


def _listed(pair: GaussianAllocation) -> tuple[Pair, Pair]:
    ratio = NormalRatio(pair.noise_multiplier)
    listed = [AllocationList(ratio, pair.steps, pair.adds, is_above) for is_above in (False, True)]
    try:
        for one in listed:
            one.nodes(2, 0.0)
    except OutOfReachError:
        return NOTHING_TOLD, GaussianMixture(pair.noise_multiplier, above=((1.0, 1.0),))
    return listed[0], listed[1]


def _is_served(pair: GaussianAllocation) -> bool:
    """Whether the series of the pair goes far enough out, and is quick."""
    is_in_doubt = pair.steps <= _FEW or pair.noise_multiplier < _LITTLE
    return not is_in_doubt and pair.goes_beyond(_TAIL)


def _joined(released: list[tuple[Pair, int]]) -> Composition:
    """Equal pairs count together."""
    counts: dict[Pair, int] = {}
    for pair, times in released:
        counts[pair] = counts.get(pair, 0) + times
    return tuple(counts.items())
