"""What a sampled run has spent after any number of steps: the live curve of a sampler's event."""

from dataclasses import dataclass, field

from dpfunc.accounting import BudgetCurve, Event
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import as_run
from dpfunc.sampling.scheme import Sampler
from dpfunc.strategies.records import Strategy

_MOST = 2**39


@dataclass(frozen=True)
class Spending:
    """``spending(steps)``: the certified epsilon at ``delta`` after so many steps.

    The event is the sampler's own: ``sampler.event(noise_multiplier, steps=steps,
    strategy=strategy)``. ``noise_multiplier``: of the gradient, and of what a clip rule learns,
    together. ``planned``: how many steps there will be; up to there no answer is above the plan's.

    ValueError where the sampler has no event for the strategy, and where the accountant knows
    nothing about ``relation``.
    """

    sampler: Sampler
    strategy: Strategy | None
    noise_multiplier: float
    delta: float
    relation: Relation
    planned: int = 0
    _curves: dict[Event, BudgetCurve] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._curve(as_run(self.event(1))[0])  # refuses what is not proven

    def event(self, steps: int) -> Event:
        """What so many steps release."""
        return self.sampler.event(self.noise_multiplier, steps=steps, strategy=self.strategy)

    def __call__(self, steps: int) -> float:
        """The certified epsilon after ``steps`` steps; 0 before the first."""
        if steps == 0:
            return 0.0
        block, times = as_run(self.event(steps))
        return self._curve(block)(times)

    def steps_within(self, target_epsilon: float) -> int:
        """The largest number of steps within the target; at most those of the strategy."""
        limit = _MOST if self.strategy is None else self.strategy.steps
        within, beyond = 0, 1
        while beyond <= limit and self(beyond) <= target_epsilon:
            within, beyond = beyond, 2 * beyond
        beyond = min(beyond, limit + 1)
        while beyond - within > 1:
            middle = (within + beyond) // 2
            fits = self(middle) <= target_epsilon
            within, beyond = (middle, beyond) if fits else (within, middle)
        return within

    def _curve(self, block: Event) -> BudgetCurve:
        """Of one block of steps, such as a cycle or an epoch: the event is so many of them."""
        if block not in self._curves:
            last, times = as_run(self.event(self.planned)) if self.planned else (block, 0)
            planned = times if last == block else 0
            self._curves[block] = BudgetCurve(
                block, delta=self.delta, relation=self.relation, planned=planned
            )
        return self._curves[block]
