"""What a watched forward pass refuses in words, and what it leaves as it was."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from dpfunc.checks import require
from dpfunc.engine.program import Program, Watched
from dpfunc.persample.batches.nested import tensors_in
from dpfunc.persample.definition.own_words import in_own_words
from dpfunc.persample.watching.capture import UnfactoredError
from dpfunc.persample.whole_batch.places import OffPlanError
from dpfunc.persample.whole_batch.verify import writes
from dpfunc.types import Tensors

_MODES = bool | str | float


def derivative(what: str) -> RuntimeError:
    return RuntimeError(
        f"PrivacyEngine: expected a model without derivatives of its own but got {what}; use "
        "PrivateGrad, whose loss of one sample may contain torch.func.grad."
    )


@contextmanager
def told_as_of_a_model() -> Iterator[None]:
    """Inside, a model is taken for a loss; what is refused of it is told in words of the engine."""
    try:
        with in_own_words("batched"):
            yield
    except UnfactoredError as error:
        raise derivative("one in its forward pass") from error
    except OffPlanError:
        raise
    except RuntimeError as error:
        raise RuntimeError(
            "PrivacyEngine: expected a model that keeps its samples apart but, where its outputs "
            f"with fixed weights are taken for a loss, {error}"
        ) from error


def refuse_unseen(program: Program) -> Callable[[Tensor], None]:
    def check(_: Tensor) -> None:
        if not program.running_backward:
            raise RuntimeError(
                "PrivacyEngine: expected loss.backward() on a loss made of what the model returned "
                "but another backward pass came by (torch.autograd.backward, or a loss computed "
                "out of sight of torch functions); call .backward() on the loss itself."
            )

    return check


def buffers_of(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensors the buffers are, and how often each has been written to."""
    return {name: (id(b), b._version) for name, b in module.named_buffers()}


def require_untouched(
    inputs: list[Tensor],
    before: list[int],
    buffers: dict[str, tuple[int, int]],
    now: dict[str, tuple[int, int]],
) -> None:
    """RuntimeError where a forward pass has changed its ``inputs``, or the ``buffers``.

    ``before``: the `writes` to the inputs before it.
    """
    require(
        writes(inputs) == before,
        "PrivacyEngine",
        "a model that leaves its inputs as they are",
        "one that changes them in place",
        "work on a copy, for example x = x.clone(): a look takes parts of what the loop gave",
        error=RuntimeError,
    )
    changed = sorted(name for name in now if now[name] != buffers.get(name))
    if changed:
        raise RuntimeError(
            "PrivacyEngine: expected a forward pass that leaves the model as it is but it "
            f"changes the buffers {changed[:5]}: what they remember of the data becomes part "
            "of the model without any noise. Do not update them in training mode."
        )


@contextmanager
def undisturbed(
    module: nn.Module, params: Tensors, paused: AbstractContextManager[None]
) -> Iterator[None]:
    """Inside, ``paused``, runs of ``module`` leave no trace in its buffers and in generators."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = {param.device for param in params.values()} - {torch.device("cpu")}
    generators = torch.random.fork_rng(list(devices))
    eager = torch.compiler.set_stance("force_eager")
    with generators, torch.enable_grad(), eager, paused:
        try:
            yield
        finally:
            for name, buffer in module.named_buffers():
                if name in buffers and not torch.equal(buffer, buffers[name]):
                    buffer.copy_(buffers[name])


def in_modes(module: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` with ``module`` and its parts in the modes that they are in now: training, or not.

    Whatever is true or false, a word, or a fraction is taken for a mode, such as a dropout's p. The
    autocast of now is one, too.
    """
    device = next((param.device.type for param in module.parameters()), "cpu")
    is_cast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
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
            with torch.autocast(device, dtype=dtype, enabled=is_cast):
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
