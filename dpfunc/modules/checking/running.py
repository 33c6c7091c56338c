"""One run of a module or a loss, of which nothing remains but what was seen."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpfunc.modules.checking.calls import Call, Recorder, copies
from dpfunc.modules.checking.state import Cell, Kept, same
from dpfunc.persample.batches.batch import as_args, batch_size, map_tensors
from dpfunc.persample.batches.nested import tensors_in
from dpfunc.persample.definition.loss import Batched, LossFn, checked_loss, checked_losses
from dpfunc.persample.watching.chance import Chance
from dpfunc.random.continuous import normal
from dpfunc.random.keys import fold_in, key
from dpfunc.types import Tensors

_STEP = 0.1  # how far parameters are moved for a probe, relative to the usual size of a weight


class Run(NamedTuple):
    """What one run has shown.

    ``outputs``: copies of the tensors returned. ``calls``: see `Recorder`. ``changes``: tensors of
    the module that had changed afterwards. ``written``: parameters that forward itself had changed.
    ``touched``: which tensors of the batch it had changed in place, counted from 0. ``unused``:
    parameters that the outputs do not depend on; None where the run had no backward pass.
    """

    outputs: list[Tensor]
    calls: list[Call]
    changes: list[Cell]
    written: list[str]
    touched: list[int]
    unused: list[str] | None


class ForwardError(Exception):
    """What was run has raised ``error``, in the layer at ``path`` or, if that is empty, outside."""

    def __init__(self, path: str, error: Exception) -> None:
        super().__init__(path, error)
        self.path, self.error = path, error


@dataclass(frozen=True)
class Runner:
    """Runs ``forward(params, batch)``, with dropout left out, and puts ``module`` back after it."""

    module: nn.Module
    forward: Callable[[Tensors, Any], Any]
    params: Tensors
    kept: Kept

    def run(self, batch: Any, *, backward: bool = False, new_draws: bool = False) -> Run:
        """A run on a copy of ``batch``: every one draws alike, unless it is to have new draws.

        Raises ForwardError where what is run raises.
        """
        inputs = map_tensors(lambda values: values.detach().clone(), batch)
        leaves = {name: value.clone().requires_grad_() for name, value in self.params.items()}
        recorder = Recorder()
        if not new_draws:
            self.kept.restore_generators()
        try:
            with _blaming(recorder):
                result, unused = self._forward(leaves, inputs, recorder, backward=backward)
            return Run(
                copies(result),
                recorder.calls,
                self.kept.changes(),
                [name for name, value in leaves.items() if not same(value, self.params[name])],
                [at for at, values in enumerate(tensors_in(inputs)) if values._version],
                unused,
            )
        finally:
            self.kept.restore()

    def _forward(
        self, leaves: Tensors, inputs: Any, recorder: Recorder, *, backward: bool
    ) -> tuple[Any, list[str] | None]:
        with torch.set_grad_enabled(backward), Chance("none"), recorder.watching(self.module):
            result = self.forward(leaves, inputs)
            return result, _unused(tensors_in(result), leaves) if backward else None


@contextmanager
def _blaming(recorder: Recorder) -> Iterator[None]:
    """Whatever is raised inside is raised as a ForwardError of the innermost layer."""
    try:
        yield
    except Exception as error:
        path = recorder.running[-1][0] if recorder.running else ""
        raise ForwardError(path, error) from error


def forward_of(module: nn.Module, loss_fn: LossFn | None) -> Callable[[Tensors, Any], Any]:
    """``forward(params, batch)``: the loss, or without one the module itself."""
    if loss_fn is None:
        return lambda params, batch: _call(module, params, batch)
    if isinstance(loss_fn, Batched):
        return lambda params, batch: checked_losses(loss_fn, batch_size(batch))(
            params, *as_args(batch)
        )
    return lambda params, sample: checked_loss(loss_fn)(params, *as_args(sample))


def nearby(params: Tensors) -> Tensors:
    """Parameters at a point near ``params`` that is in no special position.

    ``p (1 + z / 10) + sign(p) |z| / (10 sqrt(fan-in))`` with a standard normal ``z`` that is drawn
    for each number. A branch behind a gate that is zero, or close to it, does not show in outputs,
    but in gradients; here it shows in both. Signs are kept.
    """
    draws = key()

    def moved(name: str, value: Tensor) -> Tensor:
        if value.is_complex() or value.numel() == 0:
            return value
        z = normal(fold_in(draws, name), value.shape, device=value.device).to(value.dtype)
        fan_in = value.numel() // value.shape[0] if value.dim() > 1 else 1
        sign = torch.where(value < 0, -1.0, 1.0).to(value.dtype)
        return value * (1 + _STEP * z) + sign * z.abs() * (_STEP / math.sqrt(fan_in))

    return {name: moved(name, value) for name, value in params.items()}


def _call(module: nn.Module, params: Tensors, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return torch.func.functional_call(module, params, (), dict(batch))
    return torch.func.functional_call(module, params, tuple(as_args(batch)))


def _unused(outputs: list[Tensor], leaves: Tensors) -> list[str]:
    reachable = [values for values in outputs if values.requires_grad]
    if not reachable or not leaves:
        return list(leaves)
    total = torch.stack([values.abs().sum().double().cpu() for values in reachable]).sum()
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return [name for name, grad in zip(leaves, grads, strict=True) if grad is None]
