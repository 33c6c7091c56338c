"""Bounds of one composition: what engines say of it, or of two others that it lies between."""

import math
from collections.abc import Callable

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.bounds import Bounds, between, closer, log_width
from dpfunc.accounting.engines.choice import Method, epsilon_of_served, log_delta_of_served
from dpfunc.accounting.engines.enclosed import (
    Enclosed,
    enclosed,
    epsilon_by_series,
    in_lists,
    log_delta_by_series,
)

_OF_LISTS = 2e-4  # two lists are no closer to each other: finer grids gain nothing
_WIDE = 5e-4  # width at which a random allocation is worth another look, in lists


def epsilon_of(composition: Composition, delta: float, tol: float, method: Method) -> Bounds:
    """Bounds of the epsilon of one composition."""

    def ask(other: Composition, tol: float) -> Bounds:
        return epsilon_of(other, delta, tol, method)

    if (ends := enclosed(composition, delta)) is not None:
        known = _inside(ends, tol, ask)
        if method in ("auto", "single release") and (
            found := epsilon_by_series(composition, math.log(delta), (known.lower, known.upper))
        ):
            return closer(known, Bounds(*found, "single release"))
        return known
    served = epsilon_of_served(composition, delta, tol, method)
    if served.width > max(_WIDE, 2 * tol) and (ends := in_lists(composition)) is not None:
        return closer(served, _inside(ends, tol, ask))
    return served


def log_delta_of(composition: Composition, epsilon: float, tol: float, method: Method) -> Bounds:
    """Bounds of the logarithm of the delta of one composition."""

    def ask(other: Composition, tol: float) -> Bounds:
        return log_delta_of(other, epsilon, tol, method)

    if (ends := enclosed(composition)) is not None:
        if method in ("auto", "single release") and (
            found := log_delta_by_series(composition, epsilon)
        ):
            by_series = Bounds(*found, "single release")
            is_enough = log_width(by_series) <= _WIDE  # of a tiny delta a series knows little
            return by_series if is_enough else closer(by_series, _inside(ends, tol, ask))
        return _inside(ends, tol, ask)
    served = log_delta_of_served(composition, epsilon, tol, method)
    if log_width(served) > max(_WIDE, 2 * tol) and (ends := in_lists(composition)) is not None:
        return closer(served, _inside(ends, tol, ask))
    return served


def _inside(ends: Enclosed, tol: float, ask: Callable[[Composition, float], Bounds]) -> Bounds:
    if ends.below == ends.above:
        return ask(ends.below, tol)
    rough = max(tol, _OF_LISTS)
    return between(ask(ends.below, rough), ask(ends.above, rough))
