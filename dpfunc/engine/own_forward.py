"""What a watched forward pass refuses in words, and the tensors that it is given."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

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


def any_watched(value: Any) -> bool:
    return any(isinstance(tensor, Watched) for tensor in tensors_in(value))


def unwatched(tensor: Tensor) -> Tensor:
    return tensor.unwatched() if isinstance(tensor, Watched) else tensor
