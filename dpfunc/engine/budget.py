"""The plan of a run: how much noise, how many steps, and how much of the budget they use."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

from dpfunc import accounting, correlated
from dpfunc.accounting.domination.release import Relation
from dpfunc.checks import is_count, is_real, require
from dpfunc.engine.spending import Spending
from dpfunc.noise.correlated import CorrelatedNoise
from dpfunc.noise.gaussian import GaussianNoise
from dpfunc.random.keys import Key
from dpfunc.sampling import Poisson, Shuffled
from dpfunc.sampling.scheme import Sampler
from dpfunc.step.sampled import joint_of, left_by
from dpfunc.strategies.records import Strategy


class BudgetSpentError(RuntimeError):
    """The next step would exceed the budget. Nothing has changed: the model is as it was before.

    >>> raise BudgetSpentError("3 steps have spent epsilon 1.2")
    Traceback (most recent call last):
    ...
    dpfunc.engine.budget.BudgetSpentError: 3 steps have spent epsilon 1.2
    """


@dataclass(frozen=True)
class Budget:
    """``most_steps``: how many steps there may be; None for as many as one likes.

    ``noise_multiplier``: of the gradient, in one step. ``epsilon(steps)``: the certified upper
    bound after so many steps, at its ``delta``.
    """

    noise_multiplier: float
    steps_per_epoch: int
    most_steps: int | None
    epsilon: Spending

    @property
    def sampler(self) -> Sampler:
        """Who takes part in a step."""
        return self.epsilon.sampler

    @property
    def sample_rate(self) -> float:
        """The share of the records that a step has on average."""
        if isinstance(self.sampler, Poisson):
            return self.sampler.rate
        return self.sampler.expected_batch_size / self.sampler.size

    def facts(self) -> dict[str, object]:
        """What processes that train together have to have in common."""
        return {"sample_rate": self.sample_rate, "sampler": repr(self.sampler)}

    def noise(self, key: Key) -> GaussianNoise | CorrelatedNoise:
        """The mechanism that adds the noise that is counted."""
        strategy: Any = self.epsilon.strategy
        if strategy is None:
            return GaussianNoise(self.noise_multiplier, key=key)
        return CorrelatedNoise(self.noise_multiplier, strategy, key=key)

    def remaining(self, taken: int) -> float:
        """How many steps are left after ``taken``; infinite where neither number is bounded."""
        return math.inf if self.most_steps is None else max(0, self.most_steps - taken)

    def spent_error(self, taken: int) -> BudgetSpentError:
        """What to raise before a step that would exceed it."""
        return BudgetSpentError(
            f"PrivacyEngine: expected a step within the budget but {taken} steps have spent "
            f"epsilon {self.epsilon(taken):.4g} at delta {self.epsilon.delta:g}; stop here."
        )


def plan(
    *,
    sampler: Sampler,
    strategy: Strategy | None,
    clip: object,
    delta: float,
    relation: Relation,
    noise_multiplier: float | None,
    target_epsilon: float | None,
    steps: int | None,
    epochs: float | None,
) -> Budget:
    """The budget of these numbers, of which the noise may be left to be found.

    An epoch is ``size / expected_batch_size`` steps, rounded, and at least one. ``clip``: a rule
    that learns is paid for out of the same budget.
    """
    require_delta(sampler.size, delta)
    require(
        steps is None or epochs is None,
        "PrivacyEngine",
        "steps or epochs, not both",
        (steps, epochs),
        "an epoch is sample_size / batch_size steps",
    )
    require(
        noise_multiplier is not None or target_epsilon is not None,
        "PrivacyEngine",
        "a noise_multiplier, or a target_epsilon to find one for",
        None,
        "pass one of them; with both, target_epsilon is where the run has to stop",
    )
    per_epoch = max(1, round(sampler.size / sampler.expected_batch_size))
    if isinstance(sampler, Shuffled):  # whose last batch of an epoch may be smaller
        per_epoch = sampler.steps
    if epochs is not None:
        require(is_real(epochs) and epochs > 0, "PrivacyEngine", "epochs > 0", epochs, "pass 3")
        steps = max(1, math.ceil(epochs * per_epoch))
    if strategy is not None:
        steps = _within_strategy(steps, strategy)
    require(
        steps is None or (is_count(steps) and steps >= 1),
        "PrivacyEngine",
        "steps >= 1",
        steps,
        "pass the number of optimizer steps that you plan",
    )
    if noise_multiplier is None:
        require(
            steps is not None,
            "PrivacyEngine",
            "steps or epochs, as the noise for a target_epsilon depends on them",
            None,
            "pass epochs=3, or a noise_multiplier",
        )
        joint = correlated.noise_multiplier(
            target_epsilon=target_epsilon or 0.0,
            delta=delta,
            sampler=sampler,
            strategy=strategy,
            steps=steps,
            relation=relation,
        )
        noise_multiplier = left_by(clip, joint)
    require(
        is_real(noise_multiplier) and 0 <= noise_multiplier < math.inf,
        "PrivacyEngine",
        "a finite noise_multiplier >= 0",
        noise_multiplier,
        "leave it out and pass target_epsilon to have it found",
    )
    joint, most = joint_of(noise_multiplier, clip), steps
    if target_epsilon is not None:
        if isinstance(sampler, Poisson):
            within = accounting.steps(
                target_epsilon=target_epsilon,
                delta=delta,
                noise_multiplier=joint,
                sample_rate=sampler.rate,
                relation=relation,
            )
        else:
            planned = Spending(sampler, strategy, joint, delta, relation, steps or 0)
            fits = steps is not None and planned(steps) <= target_epsilon
            within = steps if fits and steps else planned.steps_within(target_epsilon)
        most = within if steps is None else min(steps, within)
    curve = Spending(sampler, strategy, joint, delta, relation, most or 0)
    return Budget(noise_multiplier, per_epoch, most, curve)


def _within_strategy(steps: int | None, strategy: Strategy) -> int:
    """The steps of the run; ValueError for more than the strategy has."""
    require(
        steps is None or not is_count(steps) or steps <= strategy.steps,
        "PrivacyEngine",
        f"at most {strategy.steps} steps, those of the strategy",
        steps,
        "make the strategy for the whole run: its sensitivity grows with the steps",
    )
    return strategy.steps if steps is None else steps


def poisson_of(sample_size: int, batch_size: float) -> Poisson:
    """Poisson samples of so many on average; ValueError for sizes that are none."""
    require(
        is_count(sample_size) and sample_size >= 1,
        "PrivacyEngine",
        "an int sample_size >= 1",
        sample_size,
        "pass the number of samples of the whole training set, len(dataset)",
    )
    require(
        is_real(batch_size) and 0 < batch_size <= sample_size,
        "PrivacyEngine",
        f"0 < batch_size <= sample_size = {sample_size}",
        batch_size,
        "pass the batch size that you want on average: Poisson batches differ in size",
    )
    return Poisson(size=sample_size, rate=batch_size / sample_size)


def require_delta(sample_size: int, delta: float) -> None:
    """ValueError unless it is one; a warning where it promises nothing."""
    require(
        is_real(delta) and 0 < delta < 1,
        "PrivacyEngine",
        "0 < delta < 1",
        delta,
        "pass a number well below 1 / sample_size, such as 1e-5",
    )
    if delta * sample_size >= 1:
        warnings.warn(
            f"PrivacyEngine: delta = {delta:g} is not below 1 / sample_size = {1 / sample_size:.2g}"
            ": a mechanism that publishes a record outright may satisfy it; choose a smaller one.",
            stacklevel=4,
        )
