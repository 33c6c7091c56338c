"""Epsilon after every number of steps, in one call: tables of moments are shared between steps.

Moments of T steps are those of one step to the power of T, so a contour tabulated for one step
serves all T near each other: the proof that its end may be cut is made for the fewest steps of a
group, the window for the most.
"""

import math
from collections.abc import Sequence

import numpy as np

from dpfunc.accounting import contour
from dpfunc.accounting.algebra import Event, Repeat
from dpfunc.accounting.domination import Composition, pairs
from dpfunc.accounting.pair import Array, OutOfReachError
from dpfunc.accounting.questions import epsilon
from dpfunc.accounting.release import Relation

_RATIO = 1.15  # of the most to the fewest steps of a group


def epsilon_curve(
    event: Event, *, steps: Sequence[int], delta: float, relation: Relation = "add_or_remove"
) -> Array:
    """The upper ends of epsilon after each number of ``steps`` of ``event`` (one step).

    Guarantee: that of `epsilon`, for each entry by itself.

    >>> from dpfunc.accounting import Gaussian, Poisson
    >>> step = Poisson(0.01, Gaussian(1.0))
    >>> epsilon_curve(step, steps=[1000, 2000], delta=1e-5).round(4).tolist()
    [1.8282, 2.5838]
    """
    order = np.argsort(steps)
    result = np.zeros(len(steps))
    start = 0
    while start < len(order):
        fewest = steps[order[start]]
        stop = start + 1
        while stop < len(order) and steps[order[stop]] <= _RATIO * fewest:
            stop += 1
        group = [int(steps[i]) for i in order[start:stop]]
        result[order[start:stop]] = _group(event, group, delta, relation)
        start = stop
    return result


def _group(event: Event, steps: list[int], delta: float, relation: Relation) -> list[float]:
    """Epsilons of steps that are near each other, in increasing order."""
    if steps[0] >= 20 and 0 < delta < 1 and len(steps) > 1:
        try:
            orders = [
                _of_order(one, steps, math.log(delta)) for one in pairs(event, relation) if one
            ]
            return [max(0.0, *of_steps) for of_steps in zip(*orders, strict=True)]
        except OutOfReachError:
            return [epsilon(Repeat(event, n), delta=delta, relation=relation) for n in steps]
    return [epsilon(Repeat(event, n), delta=delta, relation=relation) for n in steps]


def _of_order(one: Composition, steps: list[int], log_delta: float) -> list[float]:
    table = contour.shared_line(contour.parts(one), steps[0], steps[-1], log_delta)
    found, guess = [], table.start
    for n in steps:
        here = contour.upper_end(table.of(n), log_delta, guess)
        found.append(here)
        guess = here
    return found
