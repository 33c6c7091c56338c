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
from typing import Literal, NamedTuple

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines import binomial
from dpfunc.accounting.engines.bounds import Bounds, Engine
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.contour.line import Reach
from dpfunc.accounting.engines.lattice import one_grid
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.pairs import single
from dpfunc.accounting.pairs.allocation.gaussian_allocation import GaussianAllocation
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.gaussian import gaussian_epsilon, gaussian_log_delta
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import OutOfReachError, Pair

Method = Literal["auto", "closed form", "single release", "binomial", "contour", "lattice"]
Interval = tuple[float, float]


class Turn(NamedTuple):
    """An engine, and how far it goes if it is the contour."""

    engine: Engine
    reach: Reach = contour.QUICK


_FIRST = (Turn("closed form"), Turn("single release"), Turn("binomial"))
_LAST = (Turn("contour", contour.THOROUGH), Turn("renyi"))
_MANY = 4
FEW = 60  # the characteristic function of few releases falls slowly, while their lattice is small


def turns(releases: int, tol: float, pairs: int = 1) -> tuple[Turn, ...]:
    """The engines in the order in which they are tried.

    A lattice takes long transforms of each of the ``pairs``: where there are many, the contour goes
    further first.
    """
    if releases <= FEW:
        return (*_FIRST, Turn("lattice"), *_LAST)
    enough = contour.just_enough(tol)
    by_contour: tuple[Turn, ...] = (Turn("contour"), Turn("contour", enough))
    if pairs > _MANY:
        by_contour += (Turn("contour", enough._replace(effort=contour.THOROUGH.effort)),)
    return (*_FIRST, *by_contour, Turn("lattice"), *_LAST)


def epsilon_of(composition: Composition, log_delta: float, tol: float, method: Method) -> Bounds:
    """Bounds of the epsilon of one composition."""
    if not composition:
        return Bounds(0.0, 0.0, "closed form")

    def ask(turn: Turn) -> Interval:
        match turn.engine:
            case "closed form":
                return gaussian_epsilon(_mu(composition), log_delta)
            case "single release":
                return single.epsilon_interval(_only(composition), log_delta)
            case "binomial":
                return binomial.epsilon_interval(_two_losses(composition), log_delta)
            case "contour":
                return contour.epsilon_interval(composition, log_delta, turn.reach)
            case "lattice":
                is_rough = any(isinstance(pair, GaussianAllocation) for pair, _ in composition)
                if is_rough:
                    return one_grid.epsilon_interval(composition, log_delta, tol)
                return lattice.epsilon_interval(composition, log_delta, tol)
            case "renyi":  # what any one of the releases needs alone, all need together
                alone = [single.epsilon_interval(pair, log_delta)[0] for pair, _ in composition]
                return max(alone), math.inf

    in_turn = _in_turn(composition, tol, method)
    return _answer(in_turn, ask, lambda bounds: bounds.width <= tol)


def log_delta_of(composition: Composition, epsilon: float, tol: float, method: Method) -> Bounds:
    """Bounds of the logarithm of the delta of one composition."""
    if not composition:
        return Bounds(-math.inf, -math.inf, "closed form")

    def ask(turn: Turn) -> Interval:
        match turn.engine:
            case "closed form":
                return gaussian_log_delta(_mu(composition), epsilon)
            case "single release":
                return single.log_delta_interval(_only(composition), epsilon)
            case "binomial":
                return binomial.log_delta_interval(_two_losses(composition), epsilon)
            case "contour":
                return contour.log_delta_interval(composition, epsilon, turn.reach)
            case "lattice":
                return lattice.log_delta_interval(composition, epsilon, tol)
            case "renyi":
                alone = [single.log_delta_interval(pair, epsilon)[0] for pair, _ in composition]
                return max(alone), 0.0

    # A relative change of epsilon by tol is one of log delta by about as much.
    def exact(bounds: Bounds) -> bool:
        return bounds.upper - bounds.lower <= tol * -bounds.upper

    return _answer(_in_turn(composition, tol, method), ask, exact)


def _in_turn(composition: Composition, tol: float, method: Method) -> tuple[Turn, ...]:
    if method != "auto":
        return (Turn(method, contour.THOROUGH),)
    return turns(sum(times for _, times in composition), tol, len(composition))


def _answer(
    in_turn: tuple[Turn, ...], ask: Callable[[Turn], Interval], exact: Callable[[Bounds], bool]
) -> Bounds:
    """The answer of the first engine within reach, then of a slower one if it is not exact.

    An engine that was asked for by name says so where it is out of reach.
    """
    bounds = Bounds(-math.inf, math.inf, "renyi")
    for turn in in_turn:
        try:
            lower, upper = ask(turn)
        except OutOfReachError:
            if len(in_turn) == 1:
                raise
            continue
        found = Bounds(float(lower), float(upper), turn.engine)
        if len(in_turn) == 1 or not _is_wider(found, bounds):
            bounds = found
        if exact(bounds) or turn.engine in ("closed form", "single release", "binomial"):
            break
    return bounds


def _is_wider(found: Bounds, known: Bounds) -> bool:
    """False for two ends of -inf, whose difference is NaN: nothing is more exact."""
    wide, before = found.upper - found.lower, known.upper - known.lower
    return wide > before or (wide == before and found.upper > known.upper)


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
