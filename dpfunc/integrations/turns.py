"""Whose turn it is: the parts of the engine's next step, announced one after the other."""

from torch import Tensor

from dpfunc.checks import require
from dpfunc.engine.budget import BudgetSpentError
from dpfunc.engine.privacy_engine import PrivacyEngine


class Turns:
    """Tells the ``engine`` which of the ``count`` parts of a batch goes through the model next.

    For loops whose loaders run ahead: a part is drawn again when its turn comes, as `Parts` gives
    the same samples for the same step.
    """

    def __init__(self, engine: PrivacyEngine, count: int) -> None:
        self.parts = engine.parts(count)
        require(
            count == 1 or engine.loss_reduction == "mean",
            "PrivacyCallback",
            'loss_reduction="mean" of the engine, as the trainer takes the mean over the parts',
            engine.loss_reduction,
            "take the mean over the samples in the loss, or do not accumulate gradients",
        )
        self._engine = engine
        self._step = 0
        self._next = 0

    @property
    def position(self) -> int:
        """The number of the part that comes next."""
        return self._next

    def restart(self) -> None:
        """Begin with the first part of the engine's next step."""
        self._next = 0

    def announce(self, position: int, tensors: list[Tensor], *, averaged: bool) -> None:
        """The model gets part number ``position`` now; of its tensors these are known.

        ``averaged``: whether the trainer divides each loss by the number of parts.
        """
        step = self._engine.steps_taken
        if step != self._step:
            self._step, self._next = step, 0
        require(
            position == self._next,
            "PrivacyCallback",
            f"part {self._next} of the {self.parts.count} parts of step {step}",
            f"part {position}",
            "save and stop between steps only, and let every part of a batch go through the model",
            error=RuntimeError,
        )
        self._next += 1
        divided_by = self.parts.count if averaged else 1
        if not self._engine.announce(self.parts.of(step)[position], tensors, divided_by=divided_by):
            raise BudgetSpentError(
                "PrivacyCallback: expected a step within the budget but it is spent; stop here."
            )
