"""What a watched forward pass refuses in words, and the tensors that it is given."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor, nn

from dpfunc.engine.program import Program, Watched
from dpfunc.persample.batches.nested import tensors_in


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
    """``run`` with ``module`` and its parts in the modes, training or not, that they are in now."""
    modes = [(part, part.training) for part in module.modules()]

    @wraps(run)
    def run_so(*args: Any, **kwargs: Any) -> Any:
        before = [(part, part.training) for part, _ in modes]
        try:
            for part, mode in modes:
                part.training = mode
            return run(*args, **kwargs)
        finally:
            for part, mode in before:
                part.training = mode

    return run_so


def any_watched(value: Any) -> bool:
    return any(isinstance(tensor, Watched) for tensor in tensors_in(value))


def unwatched(tensor: Tensor) -> Tensor:
    return tensor.unwatched() if isinstance(tensor, Watched) else tensor
