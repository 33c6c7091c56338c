"""Bounds of one composition: what engines say of it, or of two others that it lies between."""

import math

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.bounds import Bounds, between, closer, log_width
from dpfunc.accounting.engines.choice import Method, epsilon_of_served, log_delta_of_served
from dpfunc.accounting.engines.enclosed import (
    enclosed,
    epsilon_by_series,
    in_lists,
    log_delta_by_series,
)

_WIDE = 5e-4  # width at which a random allocation is worth another look, in lists


def epsilon_of(composition: Composition, delta: float, tol: float, method: Method) -> Bounds:
    """Bounds of the epsilon of one composition."""
    if (ends := enclosed(composition, delta)) is not None:
        known = between(*(epsilon_of(each, delta, tol, method) for each in ends))
        if method in ("auto", "single release") and (
            found := epsilon_by_series(composition, math.log(delta), (known.lower, known.upper))
        ):
            return Bounds(*found, "single release")
        return known
    served = epsilon_of_served(composition, delta, tol, method)
    if served.width > max(_WIDE, 2 * tol) and (ends := in_lists(composition)) is not None:
        listed = between(*(epsilon_of(each, delta, tol, method) for each in ends))
        return closer(served, listed)
    return served


def log_delta_of(composition: Composition, epsilon: float, tol: float, method: Method) -> Bounds:
    """Bounds of the logarithm of the delta of one composition."""
    if (ends := enclosed(composition)) is not None:
        if method in ("auto", "single release") and (
            found := log_delta_by_series(composition, epsilon)
        ):
            return Bounds(*found, "single release")
        return between(*(log_delta_of(each, epsilon, tol, method) for each in ends))
    served = log_delta_of_served(composition, epsilon, tol, method)
    if log_width(served) > max(_WIDE, 2 * tol) and (ends := in_lists(composition)) is not None:
        listed = between(*(log_delta_of(each, epsilon, tol, method) for each in ends))
        return closer(served, listed)
    return served
