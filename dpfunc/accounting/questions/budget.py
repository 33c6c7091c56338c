"""The live budget: epsilon after any number of steps at once, worked out a block ahead.

What a training loop asks after every step. A block of steps is worked out when one of its steps is
asked about for the first time; after that an answer is a look-up.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dpfunc.accounting.domination.composition import pairs
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.engines.contour.integral import rough_epsilon
from dpfunc.accounting.events.algebra import Event, Repeat, require_event
from dpfunc.accounting.pairs.privacy_loss import Array, OutOfReachError
from dpfunc.accounting.questions.answers import epsilon, require_delta
from dpfunc.accounting.questions.facts import has_moments_alone
from dpfunc.accounting.questions.step_counts import Engines, ends_of_counts
from dpfunc.checks import is_count, is_real, plain, require


class _Stage(NamedTuple):
    """How wide blocks are: the ratio of their ends, at most so many steps; and what serves them."""

    octaves: int
    widest: int
    engines: Engines


_STAGES = (
    _Stage(1, 1024, ("contour",)),
    _Stage(4, 4096, ("lattice",)),
    _Stage(1, 256, ("lattice",)),
    _Stage(1, 1, ()),
)
_MOST_STEPS = 2**40


def block_of(steps: int, octaves: int, widest: int) -> range:
    """The block that holds this number of steps: some octaves, or an equal part of them."""
    if steps < 2:
        return range(steps, steps + 1)
    first = (steps.bit_length() - 1) // octaves * octaves
    if (2**octaves - 1) << first <= widest:
        return range(max(2, 1 << first), 1 << (first + octaves))
    width = min(1 << first, widest)
    start = steps - steps % width
    return range(start, start + width)


def _require_count(name: str, steps: object) -> None:
    require(
        is_count(steps) and steps <= _MOST_STEPS,
        "BudgetCurve",
        f"{name}, an int >= 0 and at most 2**40,",
        steps,
        "pass a number of steps",
    )


@dataclass(frozen=True)
class BudgetCurve:
    """``curve(steps)``: the epsilon that ``steps`` times ``event`` have spent at ``delta``.

    ``event`` is what one step releases, of any kind: a sampled Gaussian, or several mechanisms
    composed. The curve itself never changes: equal curves give equal answers in any order of
    asking. It keeps the blocks of steps it has worked out, so that an answer takes microseconds,
    and the first one of a block tens of milliseconds (docs/accounting.md has the figures).

    Guarantee: ``steps`` times ``event`` are ``(curve(steps), delta)``-DP under ``relation``, for a
    number of steps that does not depend on what was released. See `epsilon`, whose answers these
    may exceed by their width. Up to the number of steps that is ``planned`` they do not exceed
    `epsilon` of the plan (fewer steps spend no more), so that a calibrated run ends within its
    target.

    | case | answer |
    |---|---|
    | 0 steps | 0 |
    | an event that releases nothing | 0 |
    | no noise, or ``delta == 0`` with Gaussian noise | infinity |
    | steps or planned negative or not an int, delta no probability | ValueError |
    | not an event | TypeError |

    >>> from dpfunc.accounting import Gaussian, Poisson
    >>> curve = BudgetCurve(Poisson(0.01, Gaussian(1.0)), delta=1e-5)
    >>> round(curve(1000), 4), curve.steps_within(3.0)
    (1.8282, 2666)
    """

    event: Event
    delta: float
    relation: Relation = "add_or_remove"
    planned: int = 0
    _known: dict[tuple[int, int], Array] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        require_event("BudgetCurve", self.event)
        object.__setattr__(self, "delta", plain(self.delta))
        object.__setattr__(self, "planned", plain(self.planned))
        require_delta("BudgetCurve", self.delta)
        _require_count("planned", self.planned)
        if not has_moments_alone(self.event):
            pairs(self.event, self.relation)  # refuses what is not proven

    def __call__(self, steps: int) -> float:
        """The certified epsilon after ``steps`` steps."""
        steps = plain(steps)
        _require_count("steps", steps)
        spent = self._looked_up(steps)
        return min(spent, self._of_plan()) if steps <= self.planned else spent

    def steps_within(self, target_epsilon: float) -> int:
        """The largest number of steps whose epsilon is at most the target; 0 where one is more.

        ValueError where 2**39 steps still meet it.
        """
        target_epsilon = plain(target_epsilon)
        require(
            is_real(target_epsilon) and target_epsilon >= 0,
            "BudgetCurve",
            "target_epsilon >= 0",
            target_epsilon,
            "use a value between 0.1 and 10",
        )
        within, beyond = 0, max(1, self._roughly_within(target_epsilon))
        while beyond > 1 and self(beyond) > target_epsilon:
            beyond //= 2
        while self(beyond) <= target_epsilon:
            within, beyond = beyond, 2 * beyond
            require(
                beyond <= _MOST_STEPS,
                "BudgetCurve",
                "a target that some number of steps exceeds",
                target_epsilon,
                "choose any number of steps: the target is never reached",
            )
        while beyond - within > 1:
            middle = (within + beyond) // 2
            within, beyond = (
                (middle, beyond) if self(middle) <= target_epsilon else (within, middle)
            )
        return within

    def _looked_up(self, steps: int) -> float:
        for stage, (octaves, widest, engines) in enumerate(_STAGES):
            block = block_of(steps, octaves, widest)
            place = stage, block.start
            if place not in self._known:
                self._known[place] = self._worked_out(block, engines)
            if len(self._known[place]):
                break
        return float(self._known[place][steps - block.start])

    def _of_plan(self) -> float:
        place = -1, self.planned
        if place not in self._known:
            self._known[place] = self._worked_out(range(self.planned, self.planned + 1), ())
        return float(self._known[place][0])

    def _worked_out(self, block: range, engines: Engines) -> Array:
        """Epsilon after each number of steps; none where the engines cannot share their work."""
        event, delta, relation = self.event, self.delta, self.relation
        if len(block) == 1:
            return np.array([epsilon(Repeat(event, block.start), delta=delta, relation=relation)])
        try:
            found = ends_of_counts(event, list(block), delta, relation, both=False, engines=engines)
        except OutOfReachError:
            return np.zeros(0)
        # What holds after more steps holds after fewer: rounding cannot make epsilon fall.
        return np.minimum.accumulate(found[1][::-1])[::-1]

    def _roughly_within(self, target_epsilon: float) -> int:
        """About the last step within the target: where to start looking."""
        if has_moments_alone(self.event) or not 0 < self.delta < 1 or target_epsilon == 0:
            return 1
        orders = [once for once in pairs(self.event, self.relation) if once]

        def spent(steps: int) -> float:
            released = (tuple((pair, n * steps) for pair, n in once) for once in orders)
            return max((rough_epsilon(each, math.log(self.delta)) for each in released), default=0)

        within, beyond = 1, _MOST_STEPS
        while beyond > 1.01 * within + 1:
            middle = math.isqrt(within * beyond)
            within, beyond = (
                (middle, beyond) if spent(middle) <= target_epsilon else (within, middle)
            )
        return within
