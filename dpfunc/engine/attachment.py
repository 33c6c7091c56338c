"""An engine on a model and its optimizer: one at a time, and for as long as the engine lives."""

from typing import Any, Protocol
from weakref import WeakSet, finalize

import torch
from torch import Tensor, nn

from dpfunc.checks import require
from dpfunc.engine.gathering import Gathering
from dpfunc.engine.hooks import Hook
from dpfunc.types import Tensors


class Stepping(Protocol):
    """What is called before ``optimizer.step()``. It keeps the hooks alive."""

    def before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None: ...


class Attachment:
    """The hooks of ``engine`` on ``model`` and ``optimizer``. RuntimeError where others are.

    An engine that nobody refers to any more lets go of the model. Its optimizer then refuses to
    step: what it would do next is training without privacy, which nobody has asked for.
    """

    def __init__(
        self,
        engine: Stepping,
        model: nn.Module,
        params: Tensors,
        gathering: Gathering,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        _require_alone(params)
        self._params = params
        self._gathering = gathering
        _remove_dead_hooks(optimizer)
        self._on_optimizer = optimizer.register_step_pre_hook(
            Hook(engine.before_step, _refuse_without_engine)
        )
        forward = gathering.forward
        self._on_model = [
            model.register_forward_pre_hook(Hook(forward.before), with_kwargs=True, prepend=True),
            model.register_forward_hook(Hook(forward.after), with_kwargs=True, always_call=True),
        ]
        self._on_model += gathering.attach_names()
        self._when_gone = finalize(engine, self._let_go)
        self._when_gone.atexit = False
        _ATTACHED.add(self)

    def remove(self) -> None:
        """Leave the model and the optimizer as they were."""
        self._when_gone.detach()
        self._on_optimizer.remove()
        self._let_go()
        for param in self._params.values():
            param.grad = None

    def holds(self, params: dict[int, Tensor]) -> bool:
        """Whether one of ``params``, by identity, is trained by this engine."""
        return any(id(param) in params for param in self._params.values())

    def _let_go(self) -> None:
        for handle in self._on_model:
            handle.remove()
        self._gathering.forget()
        _ATTACHED.discard(self)


_ATTACHED: WeakSet[Attachment] = WeakSet()


def _require_alone(params: Tensors) -> None:
    own = {id(param): param for param in params.values()}
    require(
        not any(other.holds(own) for other in _ATTACHED),
        "PrivacyEngine.attach",
        "a model that no other engine is attached to",
        "one that is trained by another PrivacyEngine",
        "call detach() on the first engine; its steps stay spent, so compose the events of both",
        error=RuntimeError,
    )


def _remove_dead_hooks(optimizer: torch.optim.Optimizer) -> None:
    hooks = optimizer._optimizer_step_pre_hooks
    for number, hook in list(hooks.items()):
        if isinstance(hook, Hook) and not hook.is_alive:
            del hooks[number]


def _refuse_without_engine(*_: Any) -> None:
    raise RuntimeError(
        "PrivacyEngine: expected the engine that this optimizer is attached to but it is gone, as "
        "nothing refers to it any more; keep it in a variable while you train. To train on without "
        "privacy call engine.detach() first, or make a new optimizer."
    )
