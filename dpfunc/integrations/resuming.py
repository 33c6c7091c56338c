"""Going on from a checkpoint of a trainer, but not back to one."""

from typing import Any

from dpfunc.checks import require
from dpfunc.engine.privacy_engine import PrivacyEngine


def resume(engine: PrivacyEngine, state: dict[str, Any]) -> None:
    """Load ``state``, of the engine that made the checkpoint. ValueError if ``engine`` is ahead."""
    require(
        state["steps"] >= engine.steps_taken,
        "PrivacyCallback",
        f"a checkpoint after the {engine.steps_taken} steps that this engine has taken",
        f"one after {state['steps']}",
        "a step must not be released twice under one noise: to go back, start with a new engine of "
        "a new key, and compose the events of both",
    )
    if state["steps"] > engine.steps_taken:
        engine.load_state_dict(state)
