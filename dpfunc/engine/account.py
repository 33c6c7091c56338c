"""What an engine knows of its run: the steps that were released, the budget, the state to save."""

from typing import Any

from dpfunc import accounting
from dpfunc.checks import is_count, require
from dpfunc.engine.budget import Budget
from dpfunc.engine.slips import StepsWithoutEngine, require_known_steps
from dpfunc.random.keys import Key
from dpfunc.step.private_grad import PrivateGrad


def require_saved(state: object) -> None:
    """ValueError unless ``state`` is that of an engine."""
    is_state = isinstance(state, dict) and {"private", "steps"} <= state.keys()
    require(
        is_state and is_count(state["steps"]),  # type: ignore[index]  # it is a dict
        "PrivacyEngine.load_state_dict",
        "the state_dict() of a PrivacyEngine",
        sorted(state) if isinstance(state, dict) else type(state).__name__,
        "save engine.state_dict() beside those of the model and the optimizer",
    )


class Account:
    """The part of `PrivacyEngine` that answers questions. It changes nothing of a model."""

    def __init__(
        self, budget: Budget, private: PrivateGrad, key: Key, without: StepsWithoutEngine
    ) -> None:
        self.budget = budget
        self._private = private
        self._key = key
        self._without = without
        self._state = private.init({})
        self._steps = 0

    @property
    def steps_taken(self) -> int:
        """The number of noisy gradients that were released."""
        return self._steps

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over ``max_grad_norm``."""
        return self.budget.noise_multiplier

    def event(self) -> accounting.Event:
        """What was released so far, for `accounting`: to be composed with other runs, say."""
        return self._private.event(self._state, sample_rate=self.budget.sample_rate)

    def epsilon(self) -> float:
        """The certified upper bound on what was spent, at ``delta``.

        RuntimeError where the optimizer has stepped and the engine was never attached to it.
        """
        require_known_steps(self._steps, self._without)
        return self.budget.epsilon(self._steps)

    def remaining_steps(self) -> float:
        """How many steps are left; infinite where neither a budget nor steps were given."""
        return self.budget.remaining(self._steps)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, beside the model, the optimizer and the key. No secret."""
        return {"steps": self._steps, "private": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of this run, with the key of this run. ValueError for another."""
        self._state = self._private.resume(state["private"], key=self._key)
        self._steps = state["steps"]
