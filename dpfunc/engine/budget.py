"""The plan of a run: how much noise, how many steps, and how much of the budget they use."""

import math
import warnings
from dataclasses import dataclass

from dpfunc import accounting
from dpfunc.checks import is_count, is_real, require


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

    ``epsilon(steps)``: the certified upper bound after so many steps, at its ``delta``.
    """

    noise_multiplier: float
    sample_rate: float
    steps_per_epoch: int
    most_steps: int | None
    epsilon: accounting.BudgetCurve

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
    sample_size: int,
    batch_size: float,
    delta: float,
    noise_multiplier: float | None,
    target_epsilon: float | None,
    steps: int | None,
    epochs: float | None,
) -> Budget:
    """The budget of these numbers, of which the noise may be left to be found.

    An epoch is ``sample_size / batch_size`` steps, rounded, and at least one.
    """
    _require_sizes(sample_size, batch_size, delta)
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
    per_epoch = max(1, round(sample_size / batch_size))
    if epochs is not None:
        require(is_real(epochs) and epochs > 0, "PrivacyEngine", "epochs > 0", epochs, "pass 3")
        steps = max(1, math.ceil(epochs * per_epoch))
    require(
        steps is None or (is_count(steps) and steps >= 1),
        "PrivacyEngine",
        "steps >= 1",
        steps,
        "pass the number of optimizer steps that you plan",
    )
    rate = batch_size / sample_size
    if noise_multiplier is None:
        require(
            steps is not None,
            "PrivacyEngine",
            "steps or epochs, as the noise for a target_epsilon depends on them",
            None,
            "pass epochs=3, or a noise_multiplier",
        )
        noise_multiplier = accounting.noise_multiplier(
            target_epsilon=target_epsilon or 0.0,
            delta=delta,
            sample_rate=rate,
            steps=steps or 0,
        )
    require(
        is_real(noise_multiplier) and 0 <= noise_multiplier < math.inf,
        "PrivacyEngine",
        "a finite noise_multiplier >= 0",
        noise_multiplier,
        "leave it out and pass target_epsilon to have it found",
    )
    most = steps
    if target_epsilon is not None:
        within = accounting.steps(
            target_epsilon=target_epsilon,
            delta=delta,
            noise_multiplier=noise_multiplier,
            sample_rate=rate,
        )
        most = within if steps is None else min(steps, within)
    event = accounting.Poisson(rate, accounting.Gaussian(noise_multiplier))
    curve = accounting.BudgetCurve(event, delta=delta, planned=most or 0)
    return Budget(noise_multiplier, rate, per_epoch, most, curve)


def _require_sizes(sample_size: int, batch_size: float, delta: float) -> None:
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
