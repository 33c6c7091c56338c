"""What a watched forward pass refuses in words, and the tensors that it is given."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor, nn

from dpfunc.engine.program import Program, Watched
from dpfunc.persample.batches.nested import tensors_in

_MODES = bool | str | float


def derivative(what: str) -> RuntimeError:
    return RuntimeError(
        f"PrivacyEngine: expected a model without derivatives of its own but got {what}; use "
        "PrivateGrad, whose loss of one sample may contain torch.func.grad."
    )


def refuse_unseen(program: Program) -> Callable[[Tensor], None]:
    def check(_: Tensor) -> None:
        if not program.running_backward:
            raise RuntimeError(
                "PrivacyEngine: expected loss.backward() on a loss made of what the model returned "
                "but another backward pass came by (torch.autograd.backward, or a loss computed "
                "out of sight of torch functions); call .backward() on the loss itself."
            )

    return check


def in_modes(module: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` with ``module`` and its parts in the modes that they are in now: training, or not.

    Whatever is true or false, a word, or a fraction is taken for a mode, such as a dropout's p.
    """
    modes = [(vars(part), _modes_of(part)) for part in module.modules()]

    @wraps(run)
    def run_so(*args: Any, **kwargs: Any) -> Any:
        others = [
            (own, {name: own[name] for name in mode if name in own and own[name] is not mode[name]})
            for own, mode in modes
        ]
        try:
            for (own, other), (_, mode) in zip(others, modes, strict=True):
                own.update({name: mode[name] for name in other})
            return run(*args, **kwargs)
        finally:
            for own, other in others:
                own.update(other)

    return run_so


def _modes_of(part: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if isinstance(value, _MODES)}


def any_watched(value: Any) -> bool:
    return any(isinstance(tensor, Watched) for tensor in tensors_in(value))


def unwatched(tensor: Tensor) -> Tensor:
    return tensor.unwatched() if isinstance(tensor, Watched) else tensor
