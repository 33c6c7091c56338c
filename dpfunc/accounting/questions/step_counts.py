"""Epsilon after several numbers of steps that are near each other: what they share is done once.

Moments of T steps are those of one step to the power of T, and so is the transform of its losses:
a table for one step serves all T near each other, with proofs made for the worst of them.
"""

import math
from bisect import bisect_right
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpfunc.accounting.domination.composition import Composition, is_attained, pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.choice import FEW
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.contour.line import log_moment, log_peak, parts, saddle_of_delta
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.events.algebra import Event, Repeat
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.privacy_loss import ULP, Array, OutOfReachError
from dpfunc.accounting.questions.facts import (
    chance_of_inclusion,
    has_moments_alone,
    least_noise,
)

_TOL = 1e-5  # relative width, where the lattice serves
_LEAST_NOISE = 1e-3

Ends = tuple[Array, Array]
Engine = Literal["contour", "lattice"]
Engines = tuple[Engine, ...]


def ends_of_counts(
    event: Event,
    counts: list[int],
    delta: float,
    relation: Relation,
    *,
    both: bool,
    engines: Engines = ("contour", "lattice"),
) -> Ends:
    """Lower and upper ends of epsilon after each of the increasing ``counts`` of ``event``.

    Without ``both`` the lower ends are valid and may be 0. `OutOfReachError` where none of the
    engines can share its work between the counts.
    """
    never = bisect_right(counts, delta, key=lambda n: chance_of_inclusion(Repeat(event, n)))
    late = counts[never:]
    if not late:
        return np.zeros(never), np.zeros(never)
    if delta == 0 or has_moments_alone(event) or least_noise(event) < _LEAST_NOISE:
        raise OutOfReachError
    question = _Question(math.log(delta), both, engines)
    lower, upper = _worst(pairs(event, relation), late, question)
    if not all(is_attained(leaf, relation) for leaf, _ in leaves(event)):
        lower = np.zeros_like(lower)
    return _after_zeros(never, lower), _after_zeros(never, upper)


class _Question(NamedTuple):
    log_delta: float
    both: bool
    engines: Engines


def _worst(orders: tuple[Composition, ...], counts: list[int], question: _Question) -> Ends:
    """The larger epsilons of all orders; one that provably has the smaller is not worked out."""
    worst, *others = _by_rough_epsilon(orders, counts[len(counts) // 2], question.log_delta)
    lower, upper = _of_order(worst, counts, question)
    for other in others:
        undecided = np.flatnonzero(~_are_enough(other, counts, upper, question.log_delta))
        if len(undecided):
            least, most = _of_order(other, [counts[i] for i in undecided], question)
            lower[undecided] = np.maximum(lower[undecided], least)
            upper[undecided] = np.maximum(upper[undecided], most)
    return lower, upper


def _by_rough_epsilon(
    orders: tuple[Composition, ...], times: int, log_delta: float
) -> list[Composition]:
    """The orders, with the one that is likely to have the largest epsilon first."""

    def rough(once: Composition) -> float:
        return contour.rough_epsilon(tuple((pair, n * times) for pair, n in once), log_delta)

    return sorted(orders, key=rough, reverse=True)


def _of_order(once: Composition, counts: list[int], question: _Question) -> Ends:
    few = counts[-1] * sum(times for _, times in once) <= FEW
    for engine in reversed(question.engines) if few else question.engines:
        try:
            return _by(engine, once, counts, question)
        except OutOfReachError:
            continue
    raise OutOfReachError


def _by(
    engine: Engine,
    once: Composition,
    counts: list[int],
    question: _Question,
) -> Ends:
    log_delta = question.log_delta
    if len(once) == 1 and isinstance(once[0][0], FiniteLoss):
        raise OutOfReachError  # exact in closed form, and far apart on a lattice
    if engine == "contour":
        return contour.epsilon_intervals(once, counts, log_delta, contour.just_enough(_TOL))
    lower, upper = lattice.epsilon_intervals(once, counts, log_delta, _TOL, both=question.both)
    if not np.all(upper < math.inf):
        raise OutOfReachError
    return lower, upper


def _are_enough(
    once: Composition, counts: list[int], epsilons: Array, log_delta: float
) -> NDArray[np.bool_]:
    """Where Chernoff's inequality proves that delta is met at these epsilons."""
    proven = np.zeros(len(counts), dtype=bool)
    times = np.array(counts, dtype=np.float64)
    for i in {0, len(counts) // 2, len(counts) - 1}:
        try:
            released = parts(once)
            c = saddle_of_delta(released.repeated(counts[i]), log_delta).c
            value, error = log_moment(released, c, np.zeros(1), 1e-13)
        except OutOfReachError:
            continue
        spent = times * (value[0].real + error[0]) * (1 + 4 * ULP)
        proven |= spent - c * epsilons * (1 - 4 * ULP) + log_peak(c) <= log_delta - 1e-12
    return proven


def _after_zeros(count: int, values: Array) -> Array:
    return np.concatenate([np.zeros(count), values])
