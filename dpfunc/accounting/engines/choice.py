"""Which engine serves which composition: the quickest that is as exact as was asked for.

- closed form: unsampled Gaussians alone, however many.
- single release: one release of anything.
- binomial: many releases of one pair that has two losses.
- enumeration: finitely many losses, on one lattice or few in all.
- contour: Gaussian mixtures, where its sum can be proven to end early enough.
- lattice: everything else that has a pair.
- renyi: what is too far out for the others; an upper bound by moments, of everything.

Epsilon and delta take the same way. What is lost outright is taken out first (`apart`), and the
sum of the largest losses caps every answer, as does Chernoff's inequality where engines give up.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.engines.affinity import log_delta_at_least
from dpfunc.accounting.engines.apart import apart, infinite_mass
from dpfunc.accounting.engines.bounds import Bounds, Engine, distance, log_width
from dpfunc.accounting.engines.chernoff import epsilon_at_most, log_delta_at_most, moments
from dpfunc.accounting.engines.contour import integral as contour
from dpfunc.accounting.engines.contour.line import Reach
from dpfunc.accounting.engines.finite import law as finite
from dpfunc.accounting.engines.finite.binomial import two_losses
from dpfunc.accounting.engines.finite.enumeration import listed
from dpfunc.accounting.engines.lattice import refining as lattice
from dpfunc.accounting.pairs import single
from dpfunc.accounting.pairs.finite_loss import FiniteLoss
from dpfunc.accounting.pairs.gaussian import gaussian_epsilon, gaussian_log_delta
from dpfunc.accounting.pairs.largest_loss import sum_of_largest
from dpfunc.accounting.pairs.mixture import GaussianMixture
from dpfunc.accounting.pairs.privacy_loss import ULP, OutOfReachError, Pair

Method = Literal[
    "auto", "closed form", "single release", "binomial", "enumeration", "contour", "lattice"
]
Interval = tuple[float, float]


class Turn(NamedTuple):
    """An engine, and how far it goes if it is the contour."""

    engine: Engine
    reach: Reach = contour.QUICK


_EXACT: tuple[Engine, ...] = ("closed form", "single release", "binomial", "enumeration")
_FIRST = tuple(Turn(engine) for engine in _EXACT)
_LAST = (Turn("contour", contour.THOROUGH), Turn("renyi"))
_MANY = 4
_ROUGH = 0.01  # width
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


def epsilon_of_served(composition: Composition, delta: float, tol: float, method: Method) -> Bounds:
    """Bounds of the epsilon of one composition that engines serve."""
    parted = apart(composition)
    least, most = infinite_mass(composition)
    if least > delta:
        return Bounds(math.inf, math.inf, "closed form")
    cap = sum_of_largest(composition) if most <= delta else math.inf
    if not parted.rest:
        return Bounds(0.0, 0.0 if most <= delta else math.inf, "closed form")
    log_delta = math.log(delta)

    def of_rest(lost: float, side: int) -> Bounds:
        left = _left(log_delta, lost, side)
        if left >= 0:
            return Bounds(0.0, 0.0, "closed form")
        if left == -math.inf:
            return Bounds(0.0, math.inf, "renyi")
        return _epsilon_of_rest(parted.rest, left, tol, method)

    upper = of_rest(parted.lost, -1)
    lower = of_rest(parted.surely_lost, 1) if parted.lost > 0 else upper
    moved = (parted.constant - parted.off, parted.constant + parted.off)
    return Bounds(
        max(0.0, min(cap, lower.lower + moved[0])),
        max(0.0, min(cap, upper.upper + moved[1])),
        upper.engine,
    )


def log_delta_of_served(
    composition: Composition, epsilon: float, tol: float, method: Method
) -> Bounds:
    """Bounds of the logarithm of the delta of one composition that engines serve."""
    parted = apart(composition)
    least, most = infinite_mass(composition)
    if not parted.rest or epsilon >= sum_of_largest(composition):
        return Bounds(_log(least), _log(most), "closed form")

    def of_rest(off: float) -> Bounds:
        return _log_delta_of_rest(parted.rest, epsilon - parted.constant + off, tol, method)

    upper = of_rest(-parted.off)
    lower = of_rest(parted.off) if parted.off > 0 else upper
    return Bounds(
        max(_log(least), _joined(parted.surely_lost, lower.lower, -1)),
        _joined(parted.lost, upper.upper, 1),
        upper.engine,
    )


def _epsilon_of_rest(
    composition: Composition, log_delta: float, tol: float, method: Method
) -> Bounds:
    def ask(turn: Turn) -> Interval:
        match turn.engine:
            case "closed form":
                return gaussian_epsilon(_mu(composition), log_delta)
            case "single release":
                return single.epsilon_interval(_only(composition), log_delta)
            case "binomial":
                return finite.epsilon_interval(_two_losses(composition), log_delta)
            case "enumeration":
                return finite.epsilon_interval(listed(composition), log_delta)
            case "contour":
                return contour.epsilon_interval(composition, log_delta, turn.reach)
            case "lattice":
                return lattice.epsilon_interval(composition, log_delta, tol)
            case "renyi":  # what any one of the releases needs alone, all need together
                alone = [
                    _or_nothing(single.epsilon_interval, pair, log_delta, 0.0)
                    for pair, _ in composition
                ]
                return max(alone), epsilon_at_most(moments(composition), log_delta)

    in_turn = _in_turn(composition, tol, method)
    nothing = Bounds(0.0, math.inf, "renyi")
    return _answer(in_turn, ask, lambda bounds: bounds.width, lambda b: b.width <= tol, nothing)


def _log_delta_of_rest(
    composition: Composition, epsilon: float, tol: float, method: Method
) -> Bounds:
    def ask(turn: Turn) -> Interval:
        match turn.engine:
            case "closed form":
                return gaussian_log_delta(_mu(composition), epsilon)
            case "single release":
                return single.log_delta_interval(_only(composition), epsilon)
            case "binomial":
                return finite.log_delta_interval(_two_losses(composition), epsilon)
            case "enumeration":
                return finite.log_delta_interval(listed(composition), epsilon)
            case "contour":
                return contour.log_delta_interval(composition, epsilon, turn.reach)
            case "lattice":
                return lattice.log_delta_interval(composition, epsilon, tol)
            case "renyi":
                alone = [
                    _or_nothing(single.log_delta_interval, pair, epsilon, -math.inf)
                    for pair, _ in composition
                ]
                return max(alone), log_delta_at_most(moments(composition), epsilon)

    # A relative change of epsilon by tol is one of log delta by about as much, which is what the
    # lattice refines to. Where an engine that is sharper serves, delta itself is known to tol.
    def first_of(in_turn: tuple[Turn, ...], known: Bounds) -> Bounds:
        return _answer(in_turn, ask, log_width, lambda bounds: distance(bounds) <= tol, known)

    in_turn, nothing = _in_turn(composition, tol, method), Bounds(-math.inf, 0.0, "renyi")
    if method != "auto":
        return first_of(in_turn, nothing)
    if (exact := first_of(_FIRST, nothing)) != nothing:
        return exact
    near_1 = Bounds(log_delta_at_least(composition, epsilon), 0.0, "renyi")
    return near_1 if distance(near_1) <= tol else first_of(in_turn[len(_FIRST) :], near_1)


def _in_turn(composition: Composition, tol: float, method: Method) -> tuple[Turn, ...]:
    if method != "auto":
        return (Turn(method, contour.THOROUGH),)
    return turns(sum(times for _, times in composition), tol, len(composition))


def _answer(
    in_turn: tuple[Turn, ...],
    ask: Callable[[Turn], Interval],
    width: Callable[[Bounds], float],
    is_enough: Callable[[Bounds], bool],
    nothing: Bounds,
) -> Bounds:
    """The answer of the first engine within reach, then of a slower one if it is not exact.

    All that is proven holds: the ends are the best of what was found. The engine that is named is
    that of the upper end. One that was asked for by name says so where it is out of reach.
    """
    bounds = nothing
    for turn in in_turn:
        if turn.engine == "renyi" and width(bounds) < _ROUGH:  # moments never come that close
            break
        try:
            lower, upper = ask(turn)
        except OutOfReachError:
            if len(in_turn) == 1:
                raise
            continue
        engine = turn.engine if upper < bounds.upper or bounds == nothing else bounds.engine
        lower, upper = max(float(lower), bounds.lower), min(float(upper), bounds.upper)
        bounds = Bounds(min(lower, upper), upper, engine)
        if is_enough(bounds) or turn.engine in _EXACT:
            break
    return bounds


def _or_nothing(
    of_one: Callable[[Pair, float], Interval], pair: Pair, value: float, nothing: float
) -> float:
    """The lower end for one release alone, or what holds of anything."""
    try:
        return of_one(pair, value)[0]
    except OutOfReachError:
        return nothing


def _left(log_delta: float, lost: float, side: int) -> float:
    """The logarithm of ``(delta - lost) / (1 - lost)``, rounded to that side."""
    if lost == 0:
        return log_delta
    share = _log(lost) - log_delta
    if share >= 0 or lost >= 1:
        return -math.inf
    size = 1 - _log(lost) - log_delta
    slack = 8 * ULP * size * (1 - 1 / math.expm1(share))
    return log_delta + math.log(-math.expm1(share)) - math.log1p(-lost) + side * slack


def _joined(lost: float, log_delta: float, side: int) -> float:
    """The logarithm of ``lost + (1 - lost) delta``, rounded to that side."""
    if lost == 0 or log_delta == 0:
        return log_delta
    kept = log_delta + math.log1p(-lost) if lost < 1 else -math.inf
    top = max(_log(lost), kept)
    joined = top + math.log(math.exp(_log(lost) - top) + math.exp(kept - top))
    return min(0.0, joined + side * 8 * ULP * (1 + abs(joined)))


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def _mu(composition: Composition) -> float:
    """mu of the whole composition, where all of it is unsampled Gaussian."""
    total = 0.0
    for pair, times in composition:
        mu = pair.unsampled() if isinstance(pair, GaussianMixture) else None
        if mu is None:
            raise OutOfReachError
        total += times * mu * mu
    return math.sqrt(total)


def _two_losses(composition: Composition) -> finite.FiniteLaw:
    pair, times = composition[0]
    law = two_losses(pair, times) if isinstance(pair, FiniteLoss) else None
    if len(composition) != 1 or law is None:
        raise OutOfReachError
    return law


def _only(composition: Composition) -> Pair:
    if len(composition) != 1 or composition[0][1] != 1:
        raise OutOfReachError
    return composition[0][0]
