"""The questions: epsilon of an event at a delta, and delta at an epsilon; proven intervals."""

import math

from dpfunc.accounting.domination.composition import Composition, is_attained, pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.answer import epsilon_of, log_delta_of
from dpfunc.accounting.engines.bounds import Bounds
from dpfunc.accounting.engines.choice import Method
from dpfunc.accounting.engines.contour.integral import log_delta_at_most
from dpfunc.accounting.engines.renyi.divergence import renyi_epsilon, renyi_log_delta
from dpfunc.accounting.engines.renyi.subsampled_gaussian import rdp_epsilon, rdp_log_delta
from dpfunc.accounting.events.algebra import Event
from dpfunc.accounting.events.dp_sgd import phases
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.accounting.pairs.gaussian import gaussian_epsilon, gaussian_log_delta
from dpfunc.accounting.pairs.largest_loss import infinite_probability, sum_of_largest
from dpfunc.accounting.pairs.privacy_loss import ULP, log_rounding
from dpfunc.accounting.questions.facts import (
    chance_of_inclusion,
    has_moments_alone,
    is_of_gaussians,
    least_noise,
    require_options,
)
from dpfunc.accounting.questions.selection import Asked, selected_delta, selected_epsilon
from dpfunc.checks import is_real, plain, require

_NO_NOISE = 1e-100  # below this squares overflow, and there is no noise to speak of
_ROUGH = 1e-3  # width at which the lattice answers in no time
_LEAST_NOISE = 1e-6  # below this a sampled epsilon, above 1e11, is not worked out


def epsilon(
    event: Event,
    *,
    delta: float,
    relation: Relation = "add_or_remove",
    tol: float = 1e-5,
    method: Method = "auto",
) -> float:
    """The upper end of `epsilon_bounds`: an epsilon at which ``event`` is (epsilon, delta)-DP.

    >>> from dpfunc.accounting import Gaussian
    >>> round(epsilon(Gaussian(1.0), delta=1e-5), 6)
    4.377178
    """
    return _epsilon_bounds(event, delta, relation, tol, method, both=False).upper


def delta(
    event: Event,
    *,
    epsilon: float,
    relation: Relation = "add_or_remove",
    tol: float = 1e-5,
    method: Method = "auto",
) -> float:
    """The upper end of `delta_bounds`: a delta at which ``event`` is (epsilon, delta)-DP.

    >>> from dpfunc.accounting import Gaussian
    >>> round(delta(Gaussian(1.0), epsilon=1.0), 6)
    0.126937
    """
    return _delta_bounds(event, epsilon, relation, tol, method, both=False).upper


def epsilon_bounds(
    event: Event,
    *,
    delta: float,
    relation: Relation = "add_or_remove",
    tol: float = 1e-5,
    method: Method = "auto",
) -> Bounds:
    """An interval that holds the smallest epsilon at which ``event`` is (epsilon, delta)-DP.

    Guarantee: with ``upper``, ``P(S) <= e**epsilon Q(S) + delta`` for every set S of outcomes and
    every ordered pair of neighbouring data sets under ``relation``; with less than ``lower`` there
    are neighbouring data sets and a set for which it fails. Rounding is included in both ends.
    Where no data sets are known to attain the bound (`is_attained`), ``lower`` is 0.
    ``tol`` is the width asked for, relative to epsilon. The contour engine and the closed forms
    give 1e-7 or better anyway; the lattice refines until it is met, or 3 million points
    are reached.
    ``method`` forces an engine, whose name the answer carries; docs/accounting.md has the theorems.

    | case | epsilon |
    |---|---|
    | no steps, rate 0, or infinite noise | 0 |
    | ``delta == 1`` | 0 |
    | ``delta`` at least the chance that the record is ever sampled | 0 |
    | ``delta == 0`` | the largest loss: infinity for Gaussian noise |
    | noise multiplier 0 | infinity |
    | sampled, noise multiplier below 1e-6 | upper end infinity |
    | delta outside [0, 1] or NaN, tol not in (0, 1] | ValueError |

    >>> from dpfunc.accounting import dp_sgd
    >>> event = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    >>> lower, upper = epsilon_bounds(event, delta=1e-5)
    >>> f"{upper:.6f}", upper - lower < 1e-9
    ('1.828237', True)
    """
    return _epsilon_bounds(event, delta, relation, tol, method, both=True)


def _epsilon_bounds(
    event: Event, delta: float, relation: Relation, tol: float, method: Method, *, both: bool
) -> Bounds:
    """`epsilon_bounds`; the lower end may be missing unless ``both`` are wanted."""
    delta, tol = plain(delta), plain(tol)
    require_delta("epsilon", delta)
    require_options(tol, method)
    if isinstance(event, PrivateSelection):
        return selected_epsilon(event, delta, relation, _asked(event, tol, method), both=both)
    if has_moments_alone(event):
        return Bounds(0.0, _renyi_epsilon(event, relation, delta), "renyi")
    compositions = pairs(event, relation)
    if delta >= chance_of_inclusion(event):
        return Bounds(0.0, 0.0, "closed form")
    is_exact = all(is_attained(leaf, relation) for leaf, _ in leaves(event))
    if delta == 0:
        found = [_at_delta_0(once) for once in compositions]
        least = max((bounds.lower for bounds in found), default=0.0) if is_exact else 0.0
        return Bounds(least, max((b.upper for b in found), default=0.0), "closed form")
    if 0 < least_noise(event) < _NO_NOISE:
        return Bounds(0.0, math.inf, "renyi")
    found = _epsilons_of(compositions, delta, tol, method)
    worst = max(found, key=lambda bounds: bounds.upper)
    lower = max(bounds.lower for bounds in found) if is_exact else 0.0
    if worst.engine != "renyi":
        return Bounds(lower, worst.upper, worst.engine)
    return Bounds(lower, min(worst.upper, _loose_epsilon(event, relation, delta)), "renyi")


def delta_bounds(
    event: Event,
    *,
    epsilon: float,
    relation: Relation = "add_or_remove",
    tol: float = 1e-5,
    method: Method = "auto",
) -> Bounds:
    """An interval that holds the smallest delta at which ``event`` is (epsilon, delta)-DP.

    Guarantee, methods and sources are those of `epsilon_bounds`, read the other way; ``tol`` is
    still in terms of epsilon.

    | case | delta |
    |---|---|
    | no steps, rate 0, or infinite noise | 0 |
    | noise multiplier 0 | the chance that the record is ever sampled |
    | ``epsilon == inf`` | 0 with noise |
    | epsilon negative or NaN, tol not in (0, 1] | ValueError |

    >>> from dpfunc.accounting import dp_sgd
    >>> event = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    >>> lower, upper = delta_bounds(event, epsilon=2.0)
    >>> f"{upper:.4e}", upper / lower - 1 < 1e-9
    ('2.6656e-06', True)
    """
    return _delta_bounds(event, epsilon, relation, tol, method, both=True)


def _delta_bounds(
    event: Event, epsilon: float, relation: Relation, tol: float, method: Method, *, both: bool
) -> Bounds:
    """`delta_bounds`; the lower end may be missing unless ``both`` are wanted."""
    epsilon, tol = plain(epsilon), plain(tol)
    require(is_real(epsilon) and epsilon >= 0, "delta", "an epsilon >= 0", epsilon, "use 1.0")
    require_options(tol, method)
    if isinstance(event, PrivateSelection):
        return selected_delta(event, epsilon, relation, _asked(event, tol, method), both=both)
    if has_moments_alone(event):
        log_delta = renyi_log_delta(event, epsilon=epsilon, relation=relation)
        return Bounds(0.0, _probability_above(log_delta), "renyi")
    compositions = pairs(event, relation)
    most = chance_of_inclusion(event)
    if most == 0:
        return Bounds(0.0, 0.0, "closed form")
    if 0 < least_noise(event) < _NO_NOISE:
        return Bounds(0.0, most, "renyi")
    found = _log_deltas_of(compositions, epsilon, tol, method)
    worst = max(found, key=lambda bounds: bounds.upper)
    lower = max(bounds.lower for bounds in found)
    upper = worst.upper
    if worst.engine == "renyi":
        upper = min(upper, _loose_log_delta(event, relation, epsilon))
    rounded = _probability_above(upper)
    is_exact = all(is_attained(leaf, relation) for leaf, _ in leaves(event))
    least = math.nextafter(math.exp(lower - log_rounding(lower)), 0.0) if is_exact else 0.0
    return Bounds(least, min(most, rounded), worst.engine)


def _asked(event: PrivateSelection, tol: float, method: Method) -> Asked:
    """The questions about one run that a selection leads to."""
    inner = event.event
    return Asked(
        lambda e, relation: delta_bounds(
            inner, epsilon=e, relation=relation, tol=tol, method=method
        ),
        lambda d, relation: epsilon_bounds(
            inner, delta=d, relation=relation, tol=tol, method=method
        ),
    )


def _probability_above(logarithm: float) -> float:
    """The exponential rounded up; 0 where it is too small for a float."""
    about = math.exp(logarithm + log_rounding(logarithm))
    return min(1.0, math.nextafter(about, 2.0)) if about > 0 else 0.0


def _epsilons_of(
    orders: tuple[Composition, ...], delta: float, tol: float, method: Method
) -> list[Bounds]:
    """Bounds of epsilon for each order; rough ones where the first is worse for certain."""
    found = [epsilon_of(once, delta, tol, method) for once in orders[:1]]
    for once in orders[1:]:
        upper = found[0].upper
        if 0 < upper < math.inf and log_delta_at_most(once, upper) <= math.log(delta):
            found.append(Bounds(0.0, upper, found[0].engine))  # by Chernoff's inequality
            continue
        if found[0].engine == "lattice" and tol < _ROUGH:
            rough = epsilon_of(once, delta, _ROUGH, method)
            if rough.upper <= found[0].upper:
                found.append(rough)
                continue
        found.append(epsilon_of(once, delta, tol, method))
    return found


def _log_deltas_of(
    orders: tuple[Composition, ...], epsilon: float, tol: float, method: Method
) -> list[Bounds]:
    """Bounds of log delta for each order; Chernoff's where they show that the first is worse."""
    found = [log_delta_of(once, epsilon, tol, method) for once in orders[:1]]
    for once in orders[1:]:
        if found[0].engine == "lattice":
            most = log_delta_at_most(once, epsilon)
            if most <= found[0].lower:
                found.append(Bounds(-math.inf, most, "lattice"))
                continue
        found.append(log_delta_of(once, epsilon, tol, method))
    return found


def require_delta(subject: str, delta: float) -> None:
    """Refuse what is no probability."""
    require(
        is_real(delta) and 0 <= delta <= 1,
        subject,
        "a probability 0 <= delta <= 1",
        delta,
        "use about 1 / (10 * size)",
    )


def _loose_epsilon(event: Event, relation: Relation, delta: float) -> float:
    """What holds without an engine: sampling never costs privacy, and the best order's Renyi DP."""
    if not is_of_gaussians(event):
        return math.inf
    mu = _unsampled_mu(event, relation)
    without_sampling = gaussian_epsilon(mu, math.log(delta))[1]
    if relation == "replace_one" or least_noise(event) < _LEAST_NOISE:
        return without_sampling
    return min(without_sampling, rdp_epsilon(phases(event), delta))


def _loose_log_delta(event: Event, relation: Relation, epsilon: float) -> float:
    if not is_of_gaussians(event):
        return 0.0
    without_sampling = gaussian_log_delta(_unsampled_mu(event, relation), epsilon)[1]
    if relation == "replace_one" or least_noise(event) < _LEAST_NOISE:
        return without_sampling
    return min(without_sampling, rdp_log_delta(phases(event), epsilon))


def _renyi_epsilon(event: Event, relation: Relation, delta: float) -> float:
    if delta >= 1 or not leaves(event):
        return 0.0
    return renyi_epsilon(event, delta=delta, relation=relation) if delta > 0 else math.inf


def _at_delta_0(composition: Composition) -> Bounds:
    """The sum of the largest losses, each of which may have been rounded up by 32 ulp of 1."""
    if any(infinite_probability(pair) > 0 for pair, _ in composition):
        return Bounds(math.inf, math.inf, "closed form")
    most = sum_of_largest(composition)
    rounded = 64 * ULP * sum(times for _, times in composition)
    return Bounds(max(0.0, most * (1 - 1e-12) - rounded), most, "closed form")


def _unsampled_mu(event: Event, relation: Relation) -> float:
    if least_noise(event) == 0:
        return math.inf
    moved = 2.0 if relation == "replace_one" else 1.0
    return moved * math.sqrt(math.fsum(n / sigma / sigma for sigma, _, n in phases(event)))
