"""Calibration: the noise, steps, sample rate or batch size with which DP-SGD meets a target.

A target is one of three: ``target_epsilon`` at ``delta``; ``target_advantage``, the most by which
a test's true positive rate may exceed its false positive rate; ``target_tradeoff``, a point
(alpha, beta) that the trade-off curve must not run below, so that no test with a false positive
rate of alpha has a false negative rate below beta (`tradeoff`). Each answer has been put to the
accountant and what is proven meets the target; the next value in the wrong direction does not.

Guarantee: the target holds for ``after``, what was released before from the same data (nothing, by
default), and the new run together, under ``relation``. The new run is chosen by the event of the
earlier ones, not by what they showed; for choices that depend on outcomes see `filters`.
"""

import math
from dataclasses import replace

from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import Compose, Event
from dpfunc.accounting.events.dp_sgd import dp_sgd
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.accounting.questions.frontier import TOLERANCE, Frontier, last_within
from dpfunc.accounting.questions.targets import EpsilonTarget, Target, one_target
from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.naming import in_name_of

_LEAST_LOG_NOISE = -745.0  # the smallest float
_MOST_NOISE = 1e6
_LEAST_RATE = 1e-12
_MOST_STEPS = 2**40
_NOTHING = Compose(())
_ROUGH = 5e-4  # a tolerance at which epsilon need not be known to its usual width


@in_name_of("noise_multiplier")
def noise_multiplier(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    sample_rate: float,
    steps: int,
    best_of: tuple[float, float] | None = None,
    after: Event = _NOTHING,
    relation: Relation = "add_or_remove",
    tolerance: float = TOLERANCE,
) -> float:
    """The smallest noise multiplier that meets the target, or one above by ``tolerance`` at most.

    ``tolerance``: relative, between 1e-6 and 0.1. It meets the target whatever the tolerance is.

    0 where no noise is needed (``steps == 0``, ``sample_rate == 0``, ``delta == 1``, or the record
    is read so rarely that this meets the target). ValueError where a noise multiplier of 1e6 does
    not meet the target, or ``after`` alone does not. ``best_of=(mean_runs, shape)``: the run is one
    of several of which the best is released, a `PrivateSelection`, and the answer is for each.

    >>> from dpfunc.accounting import epsilon
    >>> sigma = noise_multiplier(target_epsilon=3.0, delta=1e-5, sample_rate=0.01, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=sigma, sample_rate=0.01, steps=1000), delta=1e-5) <= 3.0
    True
    >>> round(noise_multiplier(target_advantage=0.1, sample_rate=1.0, steps=1), 3)
    3.979

    Fine-tuning after a first run, both together within the budget:

    >>> first = dp_sgd(noise_multiplier=2.0, sample_rate=0.01, steps=1000)
    >>> options = {"target_epsilon": 3.0, "delta": 1e-5, "sample_rate": 0.01, "steps": 1000}
    >>> sigma = noise_multiplier(**options, after=first)
    >>> second = dp_sgd(noise_multiplier=sigma, sample_rate=0.01, steps=1000)
    >>> 2.999 < epsilon(first + second, delta=1e-5) <= 3.0
    True
    """
    target = one_target(
        "noise_multiplier", target_epsilon, delta, target_advantage, target_tradeoff
    )

    def run(log_sigma: float) -> Event:
        return dp_sgd(noise_multiplier=math.exp(log_sigma), sample_rate=sample_rate, steps=steps)

    def event(log_sigma: float) -> Event:
        return PrivateSelection(run(log_sigma), *best_of) if best_of else run(log_sigma)

    require(
        is_real(tolerance) and TOLERANCE <= tolerance <= 0.1,
        "noise_multiplier",
        f"a tolerance between {TOLERANCE:g} and 0.1",
        tolerance,
        "leave it out for the tightest",
    )
    if isinstance(target, EpsilonTarget) and tolerance > _ROUGH:
        # Quicker. What is proven is then up to that much above the truth, and so is the noise.
        target, tolerance = replace(target, tol=tolerance / 20), 0.9 * tolerance
    frontier = Frontier(event, target, after, relation, tolerance)
    begin = Frontier(run, target, after, relation)  # a guess is made for plain runs alone
    return least_noise("noise_multiplier", frontier, begin)


def least_noise(subject: str, frontier: Frontier, begin: Frontier | None = None) -> float:
    """The smallest noise multiplier that meets a target, where the event is of its logarithm.

    ``begin``: an easier question, whose answer the search begins with.
    """
    frontier.require_room(subject)
    if frontier.excess(-math.inf) <= 0:
        return 0.0
    most = math.log(_MOST_NOISE)
    guess = (begin or frontier).guess(-1.0, (-7.0, most))
    found = frontier.boundary(guess, 1.0, (_LEAST_LOG_NOISE, most))
    require(
        found is not None,
        subject,
        f"a target that a noise multiplier of {_MOST_NOISE:g} meets",
        frontier.target,
        "raise the target, or take fewer steps",
    )
    return math.exp(found)  # type: ignore[arg-type]  # see above


def sample_rate(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    steps: int,
    after: Event = _NOTHING,
    relation: Relation = "add_or_remove",
) -> float:
    """The largest Poisson sample rate that meets the target, to within one part in a million below.

    ValueError where a rate of 1e-12 does not meet it, or ``after`` alone does not.

    >>> from dpfunc.accounting import epsilon
    >>> q = sample_rate(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=1000)
    >>> epsilon(dp_sgd(noise_multiplier=1.0, sample_rate=q, steps=1000), delta=1e-5) <= 3.0
    True
    """
    target = one_target("sample_rate", target_epsilon, delta, target_advantage, target_tradeoff)
    found = _largest_rate("sample_rate", target, noise_multiplier, steps, after, relation)
    require(
        found is not None,
        "sample_rate",
        f"a target that a rate of {_LEAST_RATE:g} meets",
        f"{target}, noise_multiplier={noise_multiplier}",
        "raise the noise multiplier or the target",
    )
    return found  # type: ignore[return-value]  # see above


def _largest_rate(
    subject: str,
    target: Target,
    noise_multiplier: float,
    steps: int,
    after: Event,
    relation: Relation,
) -> float | None:
    def event(log_rate: float) -> Event:
        rate = min(1.0, math.exp(log_rate))
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=rate, steps=steps)

    frontier = Frontier(event, target, after, relation)
    frontier.require_room(subject)
    limits = math.log(_LEAST_RATE), 0.0
    found = frontier.boundary(frontier.guess(1.0, limits), -1.0, limits)
    return None if found is None else min(1.0, math.exp(found))


def batch_size(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    steps: int,
    dataset_size: int,
    after: Event = _NOTHING,
    relation: Relation = "add_or_remove",
) -> int:
    """The largest expected batch size of Poisson samples that meets the target; 0 where none does.

    ValueError where ``after`` alone does not meet it.

    >>> batch_size(
    ...     target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, steps=1000, dataset_size=60_000
    ... )
    945
    """
    dataset_size = plain(dataset_size)
    require(
        is_count(dataset_size) and dataset_size > 0,
        "batch_size",
        "an int dataset_size > 0",
        dataset_size,
        "pass len(dataset)",
    )
    target = one_target("batch_size", target_epsilon, delta, target_advantage, target_tradeoff)
    rate = _largest_rate("batch_size", target, noise_multiplier, steps, after, relation) or 0.0
    size = math.floor(rate * dataset_size)
    size -= size / dataset_size > rate  # by a rounding: what was proven is the rate
    above = dp_sgd(
        noise_multiplier=noise_multiplier,
        sample_rate=min(1.0, (size + 1) / dataset_size),
        steps=steps,
    )
    # The rate is known to one part in a million: the next size may just meet the target as well.
    return size + (size < dataset_size and target.excess(after + above, relation) <= 0)


def steps(
    *,
    target_epsilon: float | None = None,
    delta: float | None = None,
    target_advantage: float | None = None,
    target_tradeoff: tuple[float, float] | None = None,
    noise_multiplier: float,
    sample_rate: float,
    after: Event = _NOTHING,
    relation: Relation = "add_or_remove",
) -> int:
    """The largest number of steps that meets the target; 0 where not even one step does.

    ValueError where 2**39 steps still meet the target (infinite noise, say), or ``after``
    alone does not.

    >>> steps(target_epsilon=3.0, delta=1e-5, noise_multiplier=1.0, sample_rate=0.01)
    2666
    """
    target = one_target("steps", target_epsilon, delta, target_advantage, target_tradeoff)

    def event(log_steps: float) -> Event:
        count = round(math.exp(log_steps))
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=count)

    frontier = Frontier(event, target, after, relation)
    frontier.require_room("steps")
    limit = math.log(_MOST_STEPS // 2)
    guess = frontier.guess(1.0, (0.0, limit)).x
    require(
        guess < limit - 0.1 or frontier.excess(limit) > 0,
        "steps",
        "a target that some number of steps exceeds",
        target,
        "choose any number of steps: the target is never reached",
    )
    return last_within(lambda count: frontier.excess(math.log(count)) <= 0, round(math.exp(guess)))
