"""What an engine knows of its run: the steps that were released, the budget, the state to save."""

import math
from typing import Any

from dpfunc import accounting
from dpfunc.checks import is_count, require
from dpfunc.engine.budget import Budget
from dpfunc.engine.gathering import Gathering
from dpfunc.engine.last_step import NO_STEP
from dpfunc.engine.look_costs import Looks
from dpfunc.engine.noise_alone import NoiseAlone
from dpfunc.engine.slips import StepsWithoutEngine, require_known_steps
from dpfunc.random.keys import Key
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import Tensors


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

    _gathering: Gathering

    def __init__(
        self,
        budget: Budget,
        private: PrivateGrad,
        key: Key,
        params: Tensors,
        without: StepsWithoutEngine,
    ) -> None:
        self.budget = budget
        self._private = private
        self._key = key
        self._without = without
        self._state = private.init(params)
        self._steps = 0
        self._last = NO_STEP
        self._noise_alone = NoiseAlone(private)

    def _released(self, grads: Tensors) -> None:
        """Another step is counted."""
        self._steps += 1
        self._noise_alone.saw(grads)

    @property
    def steps_taken(self) -> int:
        """The number of noisy gradients that were released."""
        return self._steps

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise of one step over ``max_grad_norm``.

        With a strategy that of one participation: what a step costs alone.
        """
        return self.budget.noise_multiplier

    def event(self) -> accounting.Event:
        """What was released so far, for `accounting`: to be composed with other runs, say."""
        return self._private.event(self._state)

    def epsilon(self) -> float:
        """The certified upper bound on what was spent, at ``delta``.

        RuntimeError where the optimizer has stepped and the engine was never attached to it.
        """
        require_known_steps(self._steps, self._without)
        return self.budget.epsilon(self._steps)

    def remaining_steps(self) -> float:
        """How many steps are left; infinite where neither a budget nor steps were given."""
        return self.budget.remaining(self._steps)

    def clipped_share(self) -> float:
        """Share of the samples in the last step that were scaled down. NOT private. NaN if none."""
        return self._last.clipped_share(self._private.clip)

    def dropped_share(self) -> float:
        """Share of them whose gradient was not finite, which add zero. NOT private. NaN if none."""
        return self._last.dropped_share()

    def clipped_share_estimate(self) -> float:
        """About which share of the samples was clipped in the last step. Private: publish it.

        What a rule that learns, such as `AdaptiveClip`, has paid for; NaN before the first step and
        for other rules. With its noise it may be a little below 0 or above 1.
        """
        below = self._state["clip"].get("below")
        return math.nan if below is None else 1 - below

    def looks(self) -> Looks:
        """How many batches were looked at so far (docs/engine.md), and the seconds it took."""
        return self._gathering.forward.costs.so_far()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, beside the model, the optimizer and the key. No secret."""
        return {"steps": self._steps, "private": self._state, "sampler": repr(self.budget.sampler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a later checkpoint of this run, with its key. ValueError for others."""
        own = repr(self.budget.sampler)
        require(
            state.get("sampler", own) == own,  # a state of before samplers does not say it
            "PrivacyEngine.load_state_dict",
            f"a run with the samples of {own}",
            state.get("sampler"),
            "make the engine as it was: the event counts all steps by one sampler",
        )
        require(
            state["steps"] >= self._steps,
            "PrivacyEngine.load_state_dict",
            f"a state after the {self._steps} steps that this engine has taken",
            f"one after {state['steps']}",
            "a step must not be released twice under one noise: to go back, make a new engine of a "
            "new key, and compose the events of both",
        )
        self._state = self._private.resume(state["private"], key=self._key)
        self._steps = state["steps"]
