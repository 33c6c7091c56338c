"""Calibration of a run that is described by its sampler and its strategy."""

import math
from typing import Protocol

from dpfunc.accounting import Compose, Event
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.questions.calibrate import least_noise
from dpfunc.accounting.questions.frontier import Frontier
from dpfunc.accounting.questions.targets import one_target
from dpfunc.checks import is_count, require
from dpfunc.strategies.records import Strategy

_NOTHING = Compose(())


class HasEvent(Protocol):
    """A sampler, as far as it is asked here."""

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """What so many steps with this noise release, for the accountant."""
        ...


def noise_multiplier(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    sampler: HasEvent,
    strategy: Strategy | None = None,
    steps: int | None = None,
    after: Event = _NOTHING,
    relation: Relation = "add_or_remove",
) -> float:
    """The smallest noise multiplier, of one participation, with which a run meets the target.

    `accounting.noise_multiplier` for any sampler of `dpfunc.sampling` and any strategy: the event
    is ``sampler.event(s, steps=steps, strategy=strategy)``. ``steps``: those of the strategy by
    default.

    ValueError for a pair of sampler and strategy without a theorem, and where the relation is not
    covered by the sampler (shuffled data under adding or removing a record).

    >>> import dpfunc as dp
    >>> strategy = dp.correlated.banded(steps=2048, bands=16)
    >>> sampler = dp.sampling.CyclicPoisson(size=50_000, rate=0.125, cycle=16)
    >>> s = noise_multiplier(target_epsilon=8.0, delta=1e-6, sampler=sampler, strategy=strategy)
    >>> f"{s:.3f}"
    '1.223'
    """
    if steps is None and strategy is not None:
        steps = strategy.steps
    require(
        is_count(steps),
        "noise_multiplier",
        "steps, or a strategy that has them",
        steps,
        "pass how many steps the run takes",
    )
    target = one_target(
        "noise_multiplier", target_epsilon, delta, target_advantage, target_tradeoff
    )
    count = steps or 0

    def event(log_sigma: float) -> Event:
        return sampler.event(math.exp(log_sigma), steps=count, strategy=strategy)

    return least_noise("noise_multiplier", Frontier(event, target, after, relation))
