"""Privacy filters and odometers: releases chosen in view of the outcomes of earlier ones.

`epsilon` is about a plan: what is released, and with how much noise, does not depend on outcomes.
Where it does (noise turned down because training went badly, one more run because the first
failed), the epsilon of the releases that happened to be made is no bound: the total must be bounded
whatever the outcomes are (Rogers et al. 2016, arXiv:1605.08294). A filter does that. It fixes the
budget beforehand, in a quantity that adds up under any adaptivity, and allows a release only where
the total cannot exceed it. Privacy loss distributions do not add up so: there is no such filter.

All are pure functions of the history, an event: keep it, ask before every release, and make no
release that was not allowed. Filters are frozen; to change one is to start another budget.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.renyi.concentrated import concentration, mu_of
from dpfunc.accounting.engines.renyi.divergence import best, best_of, epsilon_at_order, rdp
from dpfunc.accounting.events.algebra import Event, require_event
from dpfunc.accounting.pairs.gaussian import gaussian_epsilon
from dpfunc.checks import is_real, plain, require


@dataclass(frozen=True)
class RenyiFilter:
    """Releases until their Renyi divergence at one ``order``, fixed beforehand, fills the budget.

    Serves everything that `rdp` knows, sampled releases too. `best_order` finds a good order for
    what is planned; it must not be changed on the way.

    Guarantee: all that is released, with noise, sampling and stopping chosen in view of earlier
    outcomes, is (target_epsilon, delta)-DP under ``relation``: Feldman and Zrnic 2021
    (arXiv:2008.11193), section 4, prove that the whole has the divergence of the budget, and
    Canonne et al. 2020 (arXiv:2004.00010), proposition 12, turn that into epsilon.

    >>> from dpfunc.accounting import Compose, dp_sgd
    >>> plan = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    >>> privacy = RenyiFilter(target_epsilon=2.5, delta=1e-5, order=best_order(plan, delta=1e-5))
    >>> privacy.allows(Compose(()), plan), privacy.allows(plan, plan)
    (True, False)
    """

    target_epsilon: float
    delta: float
    order: float
    relation: Relation = "add_or_remove"

    def __post_init__(self) -> None:
        _require_budget("RenyiFilter", self.target_epsilon, self.delta)
        _require_order("RenyiFilter", self.order)

    def spent(self, history: Event) -> float:
        """The epsilon that the history has used up at the filter's order."""
        divergence = rdp(history, order=self.order, relation=self.relation)
        if divergence == 0:  # nothing told apart at all
            return 0.0
        return max(0.0, epsilon_at_order(divergence, self.order, self.delta))

    def allows(self, history: Event, release: Event) -> bool:
        """Whether ``release`` may follow ``history``."""
        return _fits(self.spent, history, release, self.target_epsilon)


@dataclass(frozen=True)
class GaussianFilter:
    """Releases of unsampled Gaussian noise until their mu, added in squares, fills the budget.

    As tight as accounting a fixed plan of the same noise: adaptivity is free.

    Guarantee: all that is released is mu-Gaussian-DP with ``mu**2 = sum 1 / noise_multiplier**2``,
    noise and stopping chosen in view of earlier outcomes, and so (target_epsilon, delta)-DP:
    Smith and Thakurta 2022 (arXiv:2210.17520); Koskela, Tobaben and Honkela 2022
    (arXiv:2209.15596).

    >>> from dpfunc.accounting import Compose, Gaussian
    >>> privacy = GaussianFilter(target_epsilon=2.0, delta=1e-6)
    >>> history = Compose(())
    >>> for sigma in (5.0, 4.0, 1.0):  # each chosen after a look at the last outcome
    ...     if privacy.allows(history, Gaussian(sigma)):
    ...         history = history + Gaussian(sigma)
    >>> history
    Gaussian(5.0) + Gaussian(4.0)
    """

    target_epsilon: float
    delta: float
    relation: Relation = "add_or_remove"

    def __post_init__(self) -> None:
        _require_budget("GaussianFilter", self.target_epsilon, self.delta)

    def spent(self, history: Event) -> float:
        """The epsilon of the history. ValueError for anything but unsampled Gaussian noise."""
        return gaussian_epsilon(mu_of(history, self.relation), math.log(self.delta))[1]

    def allows(self, history: Event, release: Event) -> bool:
        """Whether ``release`` may follow ``history``."""
        return _fits(self.spent, history, release, self.target_epsilon)


@dataclass(frozen=True)
class ConcentratedFilter:
    """Releases until their rho, of concentrated DP, fills the budget; no order has to be chosen.

    Serves unsampled noise and promised epsilons: Gaussian and discrete Gaussian noise, `ZCDP`,
    Laplace noise and `PureDP` (rho = epsilon**2 / 2), `ExponentialMechanism` (epsilon**2 / 8), and
    `ApproxDP`, whose deltas come off the filter's own.

    Guarantee: all that is released is delta'-approximately rho-zCDP with the sums of both, chosen
    in view of earlier outcomes, and so (target_epsilon, delta)-DP: Whitehouse et al. 2023
    (arXiv:2203.05481), and Bun and Steinke 2016 (arXiv:1605.02065), section 8.

    >>> from dpfunc.accounting import Compose, PureDP
    >>> privacy = ConcentratedFilter(target_epsilon=2.0, delta=1e-6)
    >>> privacy.allows(PureDP(0.1) * 10, PureDP(0.1)), privacy.allows(PureDP(0.1) * 99, PureDP(0.1))
    (True, False)
    """

    target_epsilon: float
    delta: float
    relation: Relation = "add_or_remove"

    def __post_init__(self) -> None:
        _require_budget("ConcentratedFilter", self.target_epsilon, self.delta)

    def spent(self, history: Event) -> float:
        """The epsilon of the history. ValueError for releases without a known rho."""
        rho, xi, lost = concentration(history, self.relation)
        # The whole holds but for `lost`; the rest of delta is what the conversion may use.
        left = (self.delta - lost) * (1 - 1e-12)
        if left <= 0 or rho == math.inf:
            return math.inf
        if rho == xi == 0:
            return 0.0
        return max(0.0, best(lambda order: epsilon_at_order(xi + rho * order, order, left)))

    def allows(self, history: Event, release: Event) -> bool:
        """Whether ``release`` may follow ``history``."""
        return _fits(self.spent, history, release, self.target_epsilon)


@dataclass(frozen=True)
class RenyiOdometer:
    """What has been spent so far, valid at every moment at once: stop whenever you like.

    Guarantee: whatever is chosen in view of earlier outcomes, with probability at least
    ``1 - delta`` the privacy loss is at no moment above ``epsilon(history)`` of that moment (so the
    total at any stopping rule is (epsilon, delta)-DP for the epsilon that the rule enforces). For
    one order ``exp((order - 1) (loss - rdp))`` is a supermartingale that starts at 1, and by
    Ville's inequality it ever exceeds ``1 / delta`` with probability delta at most; each of the
    ``orders`` has an equal share of delta. Odometers: Rogers et al. 2016 (arXiv:1605.08294); from
    supermartingales: Whitehouse et al. 2023 (arXiv:2203.05481).

    >>> from dpfunc.accounting import dp_sgd
    >>> odometer = RenyiOdometer(delta=1e-5, orders=(4.0, 8.0, 16.0, 32.0))
    >>> spent = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    >>> round(odometer.epsilon(spent), 2)
    2.74
    """

    delta: float
    orders: tuple[float, ...]
    relation: Relation = "add_or_remove"

    def __post_init__(self) -> None:
        _require_budget("RenyiOdometer", 1.0, self.delta)
        require(
            isinstance(self.orders, tuple) and len(self.orders) > 0,
            "RenyiOdometer",
            "a tuple of orders",
            self.orders,
            "use (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)",
        )
        for order in self.orders:
            _require_order("RenyiOdometer", order)

    def epsilon(self, history: Event) -> float:
        """The bound on the privacy loss of the history, one of all that hold together."""
        share = math.log(len(self.orders) / self.delta)
        return min(
            rdp(history, order=order, relation=self.relation) + share / (order - 1)
            for order in self.orders
        )


def best_order(plan: Event, *, delta: float, relation: Relation = "add_or_remove") -> float:
    """The order at which the Renyi divergence of ``plan`` gives the smallest epsilon.

    A choice to make before the first release; any order is sound, this one suits the plan.
    """
    require_event("best_order", plan)
    _require_budget("best_order", 1.0, delta)

    return best_of(
        lambda order: epsilon_at_order(rdp(plan, order=order, relation=relation), order, delta)
    )


def _fits(
    spent: Callable[[Event], float], history: Event, release: Event, target_epsilon: float
) -> bool:
    require_event("allows", history)
    require_event("allows", release)
    return spent(history + release) * (1 + 1e-12) <= target_epsilon


def _require_order(subject: str, order: float) -> None:
    order = plain(order)
    known = is_real(order) and 1 < order < math.inf
    require(known, subject, "a finite order > 1", order, "use best_order(plan, delta=...)")


def _require_budget(subject: str, target_epsilon: float, delta: float) -> None:
    target_epsilon, delta = plain(target_epsilon), plain(delta)
    require(
        is_real(target_epsilon) and 0 < target_epsilon < math.inf,
        subject,
        "a finite target_epsilon > 0",
        target_epsilon,
        "use a value between 0.1 and 10",
    )
    require(
        is_real(delta) and 0 < delta < 1,
        subject,
        "a delta between 0 and 1",
        delta,
        "use about 1 / (10 * size)",
    )
