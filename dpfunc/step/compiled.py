"""`compile`: the data half of a step as one compiled graph. Clip state and noise stay outside."""

import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from dpfunc.accounting import Event
from dpfunc.checks import require
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.factors.precision import autocast_dtypes, full_precision
from dpfunc.random.keys import Key
from dpfunc.step.graph import captured
from dpfunc.step.microbatch import Aux, Part
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.step.replay import replayed
from dpfunc.types import State, Summed, Tensors

Backend = str | Callable[..., Any]

_MANY_GRAPHS = 8

# Half-precision values are to be rounded where eager rounds them: a norm might otherwise be taken
# of other numbers than those that the sum adds.
_INDUCTOR_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "emulate_precision_casts": True
}


REPLAY = "replay"


def _backends() -> list[str]:
    return [REPLAY, *torch.compiler.list_backends(())]


def compile(private_grad: PrivateGrad, *, backend: Backend = "inductor") -> "CompiledGrad":
    """``private_grad`` with its data half compiled: the same ``init``, ``update`` and ``event``.

    At the first batch of a shape, engine, norms, clip weights and weighted sum are captured as one
    flat graph, which `torch.compile` compiles with ``backend``; that takes seconds to minutes.
    Later batches of that shape run the graph. A new shape, dtype, layout or device of the
    parameters, the batch or the clip state, another autocast setting, and an empty batch do not
    reuse it: all but the last compile anew. Pad Poisson batches to one size (``pad_to`` of
    `sampling.poisson`) and one graph serves the run; with microbatches, let their size divide it.

    ``backend="replay"`` needs no compiler and takes a second: the captured operations run as a flat
    list of calls of PyTorch's own kernels, without vmap and without Python around them. That pays
    where a step is made of many small operations.

    Guarantee: that of ``private_grad``. The graph computes the same sums up to rounding; the bound
    comes from the clip rule, outside the graph, and the noise is added there. Parameters, batch,
    mask and clip state are inputs of the graph. So are tensors that the loss closes over, which may
    change in place. The whole graph, the model too, runs in full float32 precision where
    ``private_grad`` alone lets the model use TensorFloat32; autocast inside stays as it is.

    What the loss reads from Python while it is captured is fixed from then on: numbers, flags such
    as ``module.training``, and which tensor an attribute refers to. Call `compile` again where they
    change.

    Raises TypeError where ``private_grad`` is no `PrivateGrad`; ValueError for an unknown backend
    and for ``randomness="different"``; at the first batch RuntimeError where Python code of the
    loss or the clip rule depends on data.

    | case | result |
    |---|---|
    | ``B == 0`` | runs uncompiled: noise alone |
    | all masked; NaN or infinite samples | as in ``private_grad``: they add exactly zero |
    | a loss marked by `batched` | runs once uncompiled, which verifies it, and is then compiled |

    >>> import torch, dpfunc as dp
    >>> private = dp.compile(
    ...     dp.PrivateGrad(
    ...         lambda params, x: (params["w"] * x).sum(), clip=dp.Clip(1.0),
    ...         noise=dp.GaussianNoise(0.0, key=dp.key()), expected_batch_size=2,
    ...     ),
    ...     backend="aot_eager",
    ... )
    >>> params = {"w": torch.zeros(2)}
    >>> grads, state, aux = private.update(params, torch.eye(2), private.init(params))
    >>> grads
    {'w': tensor([0.5000, 0.5000])}
    """
    return CompiledGrad(private_grad, backend=backend)


@dataclass(frozen=True)
class _Graph:
    """``run(*inputs) -> [*sums, *norms, losses]``, the first two in the order of ``names``."""

    run: Callable[..., list[Tensor]]
    names: tuple[str, ...]


@dataclass(frozen=True)
class CompiledGrad:
    """A `PrivateGrad` whose data half runs as compiled graphs; made by `compile`, see there."""

    private: PrivateGrad
    _: KW_ONLY
    backend: Backend
    _graphs: dict[str, _Graph] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(
            isinstance(self.private, PrivateGrad),
            "compile",
            "a PrivateGrad",
            type(self.private).__name__,
            "build one first: dpfunc.PrivateGrad(loss_fn, clip=..., noise=...)",
            error=TypeError,
        )
        require(
            self.private.randomness == "error",
            "compile",
            'a PrivateGrad with randomness="error"',
            self.private.randomness,
            "take dropout out of the loss, or use the PrivateGrad uncompiled",
        )
        require(
            callable(self.backend) or self.backend in _backends(),
            "compile",
            f"{REPLAY!r} or a backend of torch.compile, one of {_backends()[1:]}",
            self.backend,
            'use "inductor"',
        )

    @property
    def graph_count(self) -> int:
        """How many graphs have been compiled: one for each shape of a microbatch seen so far."""
        return len(self._graphs)

    def init(self, params: Tensors) -> State:
        """The state before the first step: that of `PrivateGrad.init`."""
        return self.private.init(params)

    def update(
        self, params: Tensors, batch: Any, state: State, mask: Tensor | None = None
    ) -> tuple[Tensors, State, Aux]:
        """One step: ``(grads, state, aux)``, see `PrivateGrad.update`."""
        return self.private.update_by(self._clipped_sum, params, batch, state, mask)

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from, see `PrivateGrad.resume`."""
        return self.private.resume(state, key=key)

    def event(self, state: State, *, sample_rate: float | None = None) -> Event:
        """What the steps up to ``state`` released, see `PrivateGrad.event`."""
        return self.private.event(state, sample_rate=sample_rate)

    def _clipped_sum(
        self, params: Tensors, args: tuple[Any, ...], clip_state: State, mask: Tensor
    ) -> Part:
        if mask.shape[0] == 0:
            return self.private.clipped_sum(params, args, clip_state, mask)
        inputs = (params, args, _numbers_as_tensors(clip_state), mask)
        graph = self._graph_for(inputs)
        with torch.no_grad(), full_precision():
            *values, losses = graph.run(*tensors_in(inputs))
        count = len(graph.names)
        sums = dict(zip(graph.names, values[:count], strict=True))
        norms = dict(zip(graph.names, values[count:], strict=True))
        # A bound out of the graph would be that of the state which it was captured with.
        bound = self.private.weights(norms, clip_state, mask).bound
        return Part(Summed(sums, bound), norms, losses)

    def _graph_for(self, inputs: tuple[Any, ...]) -> _Graph:
        key = _signature(inputs)
        if key not in self._graphs:
            self._graphs[key] = self._compiled(inputs)
            if self.graph_count == _MANY_GRAPHS:
                warnings.warn(
                    f"dpfunc.compile: {_MANY_GRAPHS} graphs compiled, one for each shape of a "
                    "batch; pad batches to one size with pad_to of dpfunc.sampling.poisson.",
                    stacklevel=2,
                )
        return self._graphs[key]

    def _compiled(self, inputs: tuple[Any, ...]) -> _Graph:
        if isinstance(self.private.loss_fn, Batched):
            self.private.clipped_sum(*inputs)  # verifies the loss, which needs the data themselves
        names: list[str] = []

        def data_half(*tensors: Tensor) -> list[Tensor]:
            part = self.private.clipped_sum(*_with_tensors(inputs, tensors))
            names[:] = part.norms
            sums = [part.summed.values[name] for name in names]
            return [*sums, *part.norms.values(), part.losses]

        try:
            replay = self.backend == REPLAY
            graph = captured(data_half, tensors_in(inputs), fused=not replay)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise RuntimeError(
                "compile: expected a loss and a clip rule that run the same operations whatever "
                f"the data but got {error}; use torch.where, or the PrivateGrad uncompiled."
            ) from error
        if replay:
            return _Graph(replayed(graph), tuple(names))
        run = torch.compile(
            graph,
            backend=self.backend,
            fullgraph=True,
            dynamic=False,
            options=_INDUCTOR_OPTIONS if self.backend == "inductor" else None,
        )
        return _Graph(run, tuple(names))


def _numbers_as_tensors(state: Any) -> Any:
    """``state`` with tensors for numbers: inputs of a graph, where numbers would be constants."""
    if isinstance(state, bool) or not isinstance(state, int | float | dict | tuple | list):
        return state
    if isinstance(state, int | float):
        return torch.tensor(state, dtype=torch.int64 if isinstance(state, int) else torch.float64)
    if isinstance(state, dict):
        return {name: _numbers_as_tensors(part) for name, part in state.items()}
    return type(state)(_numbers_as_tensors(part) for part in state)


def _with_tensors(nested: Any, tensors: tuple[Tensor, ...]) -> Any:
    """``nested`` with ``tensors`` in the place of its own, in order."""
    remaining = iter(tensors)
    return replace_tensors(nested, lambda _: next(remaining))


def _signature(inputs: tuple[Any, ...]) -> str:
    """All that a captured graph rests on, beside what the loss closes over."""

    def described(values: Tensor) -> tuple[Any, ...]:
        return values.dtype, values.device, tuple(values.shape), values.stride()

    shapes = replace_tensors(inputs, described)
    return repr((shapes, autocast_dtypes(), torch.get_default_dtype()))
