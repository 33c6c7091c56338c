"""The program of a batch, run again on some of its samples."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from dpfunc.engine.own_forward import unwatched
from dpfunc.engine.program import Call, Program
from dpfunc.engine.resizing import called_on_part
from dpfunc.engine.weighing import weigh_gradients
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.definition.dense import in_full
from dpfunc.persample.factors.closeness import close, tolerances
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.widened import in_float64
from dpfunc.persample.whole_batch.draws import Draws
from dpfunc.persample.whole_batch.order import picks
from dpfunc.persample.whole_batch.parts import PartsDifferError
from dpfunc.persample.whole_batch.places import Place, to_rows
from dpfunc.random.keys import Key
from dpfunc.types import Tensors

RunModel = Callable[..., Any]
"""``(call, *args, **kwargs)``: makes a call of the model."""


class ReplayError(RuntimeError):
    """A call that cannot be made on a part of the batch. Says what it does to the samples."""


class Replay:
    """Runs of ``program`` with other leaves in the place of its own.

    ``axes``: by identity, the axis of samples of each leaf; None for a constant. ``chance``: what
    is random in the program comes from this key, the same numbers for a sample in every run.
    ``is_drawn``: whether anything may be random at all. ``is_wide``: whether leaves are taken in
    float64; parameters are as the model has them. ``returned``: what calls of the model have
    returned for the batch, where it is not their result.
    """

    def __init__(
        self,
        program: Program,
        axes: dict[int, int | None],
        chance: Key,
        *,
        is_drawn: bool = True,
        is_wide: bool = False,
    ) -> None:
        self._program = program
        self._leaves = program.leaves()
        self._axes = axes
        self._calls = program.needed()
        self._writes = any(call.writes for call in self._calls)
        self._chance = chance
        self._is_drawn = is_drawn
        self._is_wide = is_wide
        self.returned: dict[int, Any] = {}
        self._kept: set[int] = set()  # calls that are not made again
        self._places = [place for call in self._calls for place in call.draws]

    def in_float64(self) -> "Replay":
        """Of the same program, with the same axes and numbers of chance, in float64."""
        given = self._program, self._axes, self._chance
        return Replay(*given, is_drawn=self._is_drawn, is_wide=True)

    def constants(self) -> dict[int, Tensor]:
        """The leaves that no sample is in, by their place among all."""
        axes = enumerate(self._axes.items())
        return {at: self._leaves[leaf] for at, (leaf, axis) in axes if axis is None}

    def gradient(
        self, params: Tensors, samples: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensors, Draws]:
        """Of the sum of the losses of ``samples``; and what was drawn.

        With ``weights``, one for each of ``samples``, what comes to a parameter by way of a sample
        is multiplied with its weight; PartsDifferError where the model has other outputs for these
        samples than in the batch.
        """
        total, draws = self.total(samples, weights)
        return self._gradient_of(total, params), draws

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Inside, a run of the whole batch has what no gradient comes to as it was.

        Parameters of another network may have moved since; its operations are those of the batch.
        """
        reached = self._program.with_gradient()
        if not self._writes:  # what a call has returned may be something else by now
            self._kept = {
                id(call)
                for call in self._calls
                if not any(t.requires_grad and id(t) in reached for t in tensors_in(call.result))
            }
        try:
            yield
        finally:
            self._kept = set()

    def _gradient_of(self, total: Tensor, params: Tensors) -> Tensors:
        # Of edges: modes of torch functions are off while a function of tensors runs.
        ends = [get_gradient_edge(param) for param in params.values()]
        grads = torch.autograd.grad(get_gradient_edge(total), ends, allow_unused=True)
        return {
            name: torch.zeros_like(param) if (whole := in_full(grad)) is None else whole.detach()
            for (name, param), grad in zip(params.items(), grads, strict=True)
        }

    def total(
        self, samples: Tensor, weights: Tensor | None = None, run_model: RunModel | None = None
    ) -> tuple[Tensor, Draws]:
        """The sum of the losses of ``samples``, and what was drawn. ``run_model``: calls it."""
        draws = Draws(self._chance, samples, self._places)
        with ExitStack() as modes:
            if self._is_drawn:  # a mode is asked about each operation: they cost
                modes.enter_context(Chance("none"))
                modes.enter_context(draws)
            return sum(self._losses(samples, weights, run_model), torch.zeros(())), draws

    def _losses(
        self, samples: Tensor, weights: Tensor | None, run_model: RunModel | None
    ) -> list[Tensor]:
        originals = self._program.originals
        made = {
            leaf: _selected(originals.get(leaf, tensor), axis, samples)
            for leaf, tensor in self._leaves.items()
            if (axis := self._axes[leaf]) is not None
        }
        if self._is_wide:
            made = {leaf: in_float64(made.get(leaf, own)) for leaf, own in self._leaves.items()}

        def given(tensor: Tensor) -> Tensor:
            return made.get(id(tensor), tensor)

        compares = ""
        for call in self._calls:
            if id(call) in self._kept:
                made.update((id(old), unwatched(old)) for old in tensors_in(call.result))
                continue
            try:
                result = self._called(call, given, len(samples), run_model)
            except (RuntimeError, ValueError, IndexError) as error:
                raise ReplayError(_cause(call, compares, error)) from error
            if weights is not None and call.outputs:
                result = self._weighted(call, result, samples, weights)
            for old, new in zip(tensors_in(call.result), tensors_in(result), strict=True):
                made[id(old)] = new
                if sum(n != m for n, m in zip(old.shape, new.shape, strict=False)) > 1:
                    compares = compares or call.function.__name__
        return [made[id(loss)] for loss in self._program.losses]

    def _weighted(self, call: Call, result: Any, samples: Tensor, weights: Tensor) -> Any:
        """What the model has returned, with gradients that are multiplied on their way to it."""
        of_batch = self.returned.get(id(call), call.result)
        before, places = iter(tensors_in(of_batch)), iter(call.outputs)

        def weighted(output: Tensor) -> Tensor:
            old, place = next(before), next(places)
            if place is None or not output.is_floating_point():
                return output
            if not self._writes:
                _require_equal(output, old, place, samples, self._program)
            return weigh_gradients(output, place, weights)

        return replace_tensors(result, weighted)

    def _called(
        self,
        call: Call,
        given: Callable[[Tensor], Tensor],
        part: int,
        run_model: RunModel | None,
    ) -> Any:
        function = call.function
        if run_model is not None and call.outputs:
            function = partial(run_model, call)
        args, kwargs = replace_tensors((call.args, call.kwargs), given)
        autocast = torch.autocast(
            self._program.device_type, dtype=call.autocast, enabled=call.autocast is not None
        )
        with autocast, torch.set_grad_enabled(call.has_gradient):
            return called_on_part(function, args, kwargs, self._program.size, part)


def _selected(tensor: Tensor, axis: int, samples: Tensor) -> Tensor:
    """These samples; as many as there are in the memory order that they are in: for its kernels."""
    selected = tensor.index_select(axis, samples.to(tensor.device))
    if selected.shape == tensor.shape and selected.stride() != tensor.stride():
        return torch.empty_like(tensor).copy_(selected)
    return selected


def _require_equal(
    output: Tensor, of_batch: Tensor, place: Place, samples: Tensor, program: Program
) -> None:
    rows = to_rows(of_batch.detach(), place, program.size)[samples.to(of_batch.device)]
    relative, small = tolerances(program.rounding())
    own = to_rows(output.detach(), place, len(samples))
    if not close(own, rows, relative, floor=small * float(rows.double().norm())):
        raise PartsDifferError


def _cause(call: Call, compares: str, error: Exception) -> str:
    if compares:
        return (
            f"a loss of one term for each sample but {compares} compares samples with each other "
            "(a contrastive loss?), so that no sample has a gradient of its own"
        )
    if picks(call.function):
        return (
            "a loss of one term for each sample but an index mixes them (mixup, shuffled negatives?"
            "), so that a term is made of several samples"
        )
    return (
        "a loss that can be computed on a part of the batch too but it raises: "
        f"{str(error).splitlines()[0]}"
    )
