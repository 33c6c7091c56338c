"""Which engine serves which composition: the quickest that is as exact as was asked for.

- closed form: unsampled Gaussians alone, however many.
- single release: one release of anything.
- binomial: many releases of one pair that has two losses.
- contour: Gaussian mixtures, where its sum can be proven to end early enough.
- lattice: everything else that has a pair.
- renyi: what is too far out for the others; an upper bound only, of sampled Gaussians.
"""

import math
from collections.abc import Callable
from typing import Literal

from dpfunc.accounting import binomial, contour, lattice, one_grid, single
from dpfunc.accounting.allocation import GaussianAllocation
from dpfunc.accounting.bounds import Bounds, Engine
from dpfunc.accounting.domination import Composition
from dpfunc.accounting.finite_loss import FiniteLoss
from dpfunc.accounting.gaussian import gaussian_epsilon, gaussian_log_delta
from dpfunc.accounting.mixture import GaussianMixture
from dpfunc.accounting.pair import OutOfReachError, Pair

Method = Literal["auto", "closed form", "single release", "binomial", "contour", "lattice"]
Interval = tuple[float, float]

Turns = tuple[tuple[Engine, float], ...]
_FIRST: Turns = (("closed form", 0.0), ("single release", 0.0), ("binomial", 0.0))
_LAST: Turns = (("contour", contour.THOROUGH), ("renyi", 0.0))
_IN_TURN: Turns = (*_FIRST, ("contour", contour.QUICK), ("lattice", 0.0), *_LAST)
# The characteristic function of a few releases falls slowly, while their lattice is small.
_FEW = 60
_FOR_FEW: Turns = (*_FIRST, ("lattice", 0.0), *_LAST)


def epsilon_of(composition: Composition, log_delta: float, tol: float, method: Method) -> Bounds:
    """Bounds of the epsilon of one composition."""
    if not composition:
        return Bounds(0.0, 0.0, "closed form")

    def ask(engine: Engine, effort: float) -> Interval:
        match engine:
            case "closed form":
                return gaussian_epsilon(_mu(composition), log_delta)
            case "single release":
                return single.epsilon_interval(_only(composition), log_delta)
            case "binomial":
                return binomial.epsilon_interval(_two_losses(composition), log_delta)
            case "contour":
                return contour.epsilon_interval(composition, log_delta, effort)
            case "lattice":
                is_rough = any(isinstance(pair, GaussianAllocation) for pair, _ in composition)
                if is_rough:
                    return one_grid.epsilon_interval(composition, log_delta, tol)
                return lattice.epsilon_interval(composition, log_delta, tol)
            case "renyi":  # what any one of the releases needs alone, all need together
                alone = [single.epsilon_interval(pair, log_delta)[0] for pair, _ in composition]
                return max(alone), math.inf

    return _answer(composition, ask, method, lambda bounds: bounds.width <= tol)


def log_delta_of(composition: Composition, epsilon: float, tol: float, method: Method) -> Bounds:
    """Bounds of the logarithm of the delta of one composition."""
    if not composition:
        return Bounds(-math.inf, -math.inf, "closed form")

    def ask(engine: Engine, effort: float) -> Interval:
        match engine:
            case "closed form":
                return gaussian_log_delta(_mu(composition), epsilon)
            case "single release":
                return single.log_delta_interval(_only(composition), epsilon)
            case "binomial":
                return binomial.log_delta_interval(_two_losses(composition), epsilon)
            case "contour":
                return contour.log_delta_interval(composition, epsilon, effort)
            case "lattice":
                return lattice.log_delta_interval(composition, epsilon, tol)
            case "renyi":
                alone = [single.log_delta_interval(pair, epsilon)[0] for pair, _ in composition]
                return max(alone), 0.0

    # A relative change of epsilon by tol is one of log delta by about as much.
    def exact(bounds: Bounds) -> bool:
        return bounds.upper - bounds.lower <= tol * -bounds.upper

    return _answer(composition, ask, method, exact)


def _answer(
    composition: Composition,
    ask: Callable[[Engine, float], Interval],
    method: Method,
    exact: Callable[[Bounds], bool],
) -> Bounds:
    """The answer of the named engine; or the first within reach, then a slower one if not exact."""
    if method != "auto":
        lower, upper = ask(method, contour.THOROUGH)
        return Bounds(float(lower), float(upper), method)
    bounds = Bounds(-math.inf, math.inf, "renyi")
    many = sum(times for _, times in composition) > _FEW
    for engine, effort in _IN_TURN if many else _FOR_FEW:
        try:
            lower, upper = ask(engine, effort)
        except OutOfReachError:
            continue
        found = Bounds(float(lower), float(upper), engine)
        # Written so that two ends of -inf, whose difference is NaN, count as exact.
        if not found.upper - found.lower > bounds.upper - bounds.lower:
            bounds = found
        if exact(bounds) or engine in ("closed form", "single release", "binomial"):
            break
    return bounds


def _mu(composition: Composition) -> float:
    """mu of the whole composition, where all of it is unsampled Gaussian."""
    total = 0.0
    for pair, times in composition:
        mu = pair.unsampled() if isinstance(pair, GaussianMixture) else None
        if mu is None:
            raise OutOfReachError
        total += times * mu * mu
    return math.sqrt(total)


def _two_losses(composition: Composition) -> binomial.TwoLosses:
    pair, times = composition[0]
    law = binomial.two_losses(pair, times) if isinstance(pair, FiniteLoss) else None
    if len(composition) != 1 or law is None:
        raise OutOfReachError
    return law


def _only(composition: Composition) -> Pair:
    if len(composition) != 1 or composition[0][1] != 1:
        raise OutOfReachError
    return composition[0][0]
