"""Loops that forgot to attach the engine, and would train without privacy in silence."""

from collections.abc import Callable
from typing import Any
from weakref import finalize

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from dpfunc.checks import require
from dpfunc.engine.hooks import Hook
from dpfunc.types import Tensors

OF_OPACUS = {
    "accountant": "leave accountant out: the one that dpfunc has is the tightest",
    "data_loader": "pass data=loader",
    "max_norm": "pass max_grad_norm",
    "module": "pass the model as the first argument",
    "noise_generator": "pass key=dpfunc.key()",
    "optimizer": "call .attach(optimizer) on the engine",
    "poisson_sampling": "leave it out: engine.loader(dataset) samples by Poisson",
    "secure_mode": "leave it out: the noise is always secure",
    "target_delta": "pass delta",
}
"""Arguments that Opacus has, and what says the same here."""

_METHODS = {
    "get_epsilon": "call engine.epsilon(), at the delta of the engine",
    "make_private": "make a PrivacyEngine(model, ...) and call .attach(optimizer), then take "
    "batches from engine.loader(dataset)",
    "make_private_with_epsilon": "pass target_epsilon and epochs to PrivacyEngine(model, ...)",
}
_ATTACH = "call engine.attach(optimizer) before the first step"


class StepsWithoutEngine:
    """Notes whether an optimizer of ``params`` steps while no engine is attached to it."""

    def __init__(self, params: Tensors) -> None:
        self._ids = {id(param) for param in params.values()}
        self.seen = False
        self.ended = False
        self._handle = register_optimizer_step_post_hook(Hook(self._stepped))
        finalize(self, self._handle.remove)

    def end(self) -> None:
        """The engine is attached: what its optimizer does is no slip."""
        self.ended = True
        self._handle.remove()

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        if any(id(param) in self._ids for group in groups for param in group["params"]):
            self.seen = True


def no_attribute(name: str) -> AttributeError:
    """What to raise for an attribute that a `PrivacyEngine` has not."""
    if name.startswith("_"):
        return AttributeError(f"'PrivacyEngine' object has no attribute {name!r}")
    remedy = _METHODS.get(name, "see help(dpfunc.PrivacyEngine)")
    return AttributeError(f"PrivacyEngine: expected a name that it has but got {name!r}; {remedy}.")


def require_known_steps(steps_taken: int, without: StepsWithoutEngine) -> None:
    """RuntimeError where the model was trained, and none of it through the engine."""
    require(
        steps_taken > 0 or not without.seen,
        "PrivacyEngine.epsilon",
        "an engine that took the steps of the model's optimizer",
        "one that took none, while the optimizer did: they were not private",
        _ATTACH,
        error=RuntimeError,
    )


def require_attached(attachment: object, without: StepsWithoutEngine) -> None:
    """RuntimeError where batches are drawn for an engine that is on no optimizer."""
    require(
        attachment is not None,
        "PrivacyEngine.loader",
        "an engine that is attached to an optimizer",
        "one that was detached" if without.ended else "one that never was",
        _ATTACH
        if not without.ended
        else "call engine.attach(optimizer) again, or use a plain "
        "DataLoader to train on without privacy",
        error=RuntimeError,
    )


class SpentOnce:
    """Calls ``on_spent``, if there is one, the first time; False where there is none."""

    def __init__(self, on_spent: Callable[[Any], None] | None) -> None:
        require(
            on_spent is None or callable(on_spent),
            "PrivacyEngine",
            "on_budget_spent as a function of the engine",
            on_spent,
            "leave it out to have BudgetSpentError raised",
            error=TypeError,
        )
        self._on_spent = on_spent
        self._called = False

    def call(self, engine: object) -> bool:
        if self._on_spent is not None and not self._called:
            self._called = True
            self._on_spent(engine)
        return self._on_spent is not None
