"""Calibration: the noise, steps, sample rate or batch size with which DP-SGD meets a target.

A target is one of three: ``target_epsilon`` at ``delta``; ``target_advantage``, the most by which
a test's true positive rate may exceed its false positive rate; ``target_tradeoff``, a point
(alpha, beta) that the trade-off curve must not run below, so that no test with a false positive
rate of alpha has a false negative rate below beta (`tradeoff`). Each answer has been put to the
accountant and what is proven meets the target; the next value in the wrong direction does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from dpfunc.accounting.algebra import Event
from dpfunc.accounting.contour import rough_epsilon
from dpfunc.accounting.domination import pairs
from dpfunc.accounting.events import dp_sgd
from dpfunc.accounting.questions import chance_of_inclusion
from dpfunc.accounting.release import Relation
from dpfunc.accounting.targets import Target, one_target
from dpfunc.checks import is_count, require

_TOLERANCE = 1e-6  # relative: how close to the best value an answer comes
_MOST_NOISE = 1e6
_LEAST_RATE = 1e-12
_MOST_STEPS = 2**40


def noise_multiplier(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    sample_rate: float,
    steps: int,
    relation: Relation = "add_or_remove",
) -> float:
    """The smallest noise multiplier that meets the target, to within one part in a million above.

    0 where no noise is needed (``steps == 0``, ``sample_rate == 0``, ``delta >= 1``, or the record
    is read so rarely that this meets the target). ValueError where a noise multiplier of 1e6 does
    not meet the target.

    >>> from dpfunc.accounting import epsilon
    >>> sigma = noise_multiplier(target_epsilon=3.0, delta=1e-5, sample_rate=0.01, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=sigma, sample_rate=0.01, steps=1000), delta=1e-5) <= 3.0
    True
    >>> round(noise_multiplier(target_advantage=0.1, sample_rate=1.0, steps=1), 4)
    3.9789
    """
    target = one_target(
        "noise_multiplier", target_epsilon, delta, target_advantage, target_tradeoff
    )

    def event(log_sigma: float) -> Event:
        return dp_sgd(noise_multiplier=math.exp(log_sigma), sample_rate=sample_rate, steps=steps)

    if target.spare_chance() >= chance_of_inclusion(event(0.0)):
        return 0.0
    search = _Search(event, target, relation)
    guess = search.guess(-1.0, (-7.0, math.log(_MOST_NOISE)))
    require(
        guess < math.log(_MOST_NOISE) - 0.1 or search.excess(math.log(_MOST_NOISE)) <= 0,
        "noise_multiplier",
        f"a target that a noise multiplier of {_MOST_NOISE:g} meets",
        target,
        "raise the target, or take fewer steps",
    )
    return math.exp(search.boundary(guess, 1.0))


def sample_rate(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    steps: int,
    relation: Relation = "add_or_remove",
) -> float:
    """The largest Poisson sample rate that meets the target, to within one part in a million below.

    ValueError where a rate of 1e-12 does not meet it.

    >>> from dpfunc.accounting import epsilon
    >>> q = sample_rate(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=1.0, sample_rate=q, steps=1000), delta=1e-5) <= 3.0
    True
    """
    target = one_target("sample_rate", target_epsilon, delta, target_advantage, target_tradeoff)

    def event(log_rate: float) -> Event:
        rate = min(1.0, math.exp(log_rate))
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=rate, steps=steps)

    search = _Search(event, target, relation)
    least = math.log(_LEAST_RATE)
    guess = search.guess(1.0, (least, 0.0))
    if guess > -0.1 and search.excess(0.0) <= 0:
        return 1.0
    require(
        guess > least + 0.1 or search.excess(least) <= 0,
        "sample_rate",
        f"a target that a rate of {_LEAST_RATE:g} meets",
        f"{target}, noise_multiplier={noise_multiplier}",
        "raise the noise multiplier or the target",
    )
    return min(1.0, math.exp(search.boundary(guess, -1.0)))


def batch_size(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    steps: int,
    dataset_size: int,
    relation: Relation = "add_or_remove",
) -> int:
    """The largest expected batch size of Poisson samples that meets the target; 0 where none does.

    >>> batch_size(
    ...     target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=1000, dataset_size=60_000
    ... )
    945
    """
    require(
        is_count(dataset_size) and dataset_size > 0,
        "batch_size",
        "an int dataset_size > 0",
        dataset_size,
        "pass len(dataset)",
    )
    target = one_target("batch_size", target_epsilon, delta, target_advantage, target_tradeoff)
    rate = sample_rate(
        target_epsilon=target_epsilon,
        delta=delta,
        target_advantage=target_advantage,
        target_tradeoff=target_tradeoff,
        noise_multiplier=noise_multiplier,
        steps=steps,
        relation=relation,
    )
    size = math.floor(rate * dataset_size)
    above = dp_sgd(
        noise_multiplier=noise_multiplier,
        sample_rate=min(1.0, (size + 1) / dataset_size),
        steps=steps,
    )
    # The rate is known to one part in a million: the next size may just meet the target as well.
    return size + (size < dataset_size and target.excess(above, relation) <= 0)


def steps(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    sample_rate: float,
    relation: Relation = "add_or_remove",
) -> int:
    """The largest number of steps that meets the target; 0 where not even one step does.

    ValueError where 2**39 steps still meet the target (infinite noise, say).

    >>> steps(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, sample_rate=0.01)
    2666
    """
    target = one_target("steps", target_epsilon, delta, target_advantage, target_tradeoff)

    def event(log_steps: float) -> Event:
        count = round(math.exp(log_steps))
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=count)

    search = _Search(event, target, relation)
    limit = math.log(_MOST_STEPS // 2)
    guess = search.guess(1.0, (0.0, limit))
    require(
        guess < limit - 0.1 or search.excess(limit) > 0,
        "steps",
        "a target that some number of steps exceeds",
        target,
        "choose any number of steps: the target is never reached",
    )
    return _last_within(lambda count: search.excess(math.log(count)) <= 0, round(math.exp(guess)))


def _last_within(meets: Callable[[int], bool], guess: int) -> int:
    """The largest count that meets a target which only counts up to some one meet; 0 is one."""
    gap = max(1, guess // 1000)
    within, beyond = guess, guess
    while within > 0 and not meets(within):
        within, beyond, gap = max(0, within - gap), within, 4 * gap
    while beyond == within or meets(beyond):
        within, beyond, gap = beyond, beyond + gap, 4 * gap
    while beyond - within > 1:
        middle = (within + beyond) // 2
        within, beyond = (middle, beyond) if meets(middle) else (within, middle)
    return within


@dataclass(frozen=True)
class _Search:
    """Where ``event(x)`` just meets the target; x is a logarithm."""

    event: Callable[[float], Event]
    target: Target
    relation: Relation

    def excess(self, x: float) -> float:
        """How far what is proven is beyond the target: at most 0 meets it."""
        return self.target.excess(self.event(x), self.relation)

    def guess(self, direction: float, limits: tuple[float, float]) -> float:
        """About the place, from an estimate that proves nothing; the nearer limit if it is outside.

        ``direction`` is 1 where epsilon grows with x.
        """
        low, high = limits
        epsilon, delta = self.target.like()
        while high - low > 1e-4:
            middle = (low + high) / 2
            compositions = pairs(self.event(middle), self.relation)
            roughly = [rough_epsilon(c, math.log(delta)) for c in compositions if c]
            spent = max(roughly, default=0.0)
            low, high = (low, middle) if (spent - epsilon) * direction > 0 else (middle, high)
        return (low + high) / 2

    def boundary(self, guess: float, safe: float) -> float:
        """An x that meets the target such that x - safe * tolerance does not.

        ``safe`` is the direction in which the target is met.
        """
        good = bad = guess
        step = 5e-4
        while self.excess(good) > 0:
            bad, good, step = good, good + safe * step, 4 * step
        while bad == good or self.excess(bad) <= 0:
            good, bad, step = bad, bad - safe * step, 4 * step
        x = float(brentq(self.excess, good, bad, xtol=_TOLERANCE / 8))
        good, bad = x + safe * _TOLERANCE / 4, x - safe * _TOLERANCE / 4
        while self.excess(good) > 0:
            bad, good = good, good + safe * _TOLERANCE / 2
        while self.excess(bad) <= 0:
            good, bad = bad, bad - safe * _TOLERANCE / 2
        return good
