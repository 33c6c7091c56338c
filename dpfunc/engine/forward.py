"""A module's own forward pass, watched: who uses which parameter, and where the samples are.

While `WatchedForward` is attached, ``model(x)`` in training mode runs under the tape of the engine,
as a loss marked by `batched` does. What is learned of the model is learned and verified in the same
way too: the loss of a sample is then a fixed random combination of its outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dpfunc.engine.fully_sharded import FullySharded
from dpfunc.engine.look_costs import LookCosts
from dpfunc.engine.outputs import combined_outputs, output_places, structure_of
from dpfunc.engine.own_forward import (
    any_watched,
    buffers_of,
    derivative,
    in_modes,
    refuse_unseen,
    require_untouched,
    told_as_of_a_model,
    undisturbed,
    unwatched,
)
from dpfunc.engine.passes import Microbatch, Pass
from dpfunc.persample.batches.batch import take
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.definition.own_words import in_own_words
from dpfunc.persample.looks import learned_places, places_to_try
from dpfunc.persample.rules import RULES
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.chance import Chance
from dpfunc.persample.watching.under_vmap import transforms_above
from dpfunc.persample.watching.widened import Widened, in_float64
from dpfunc.persample.whole_batch.places import OffPlanError, Place, Places
from dpfunc.persample.whole_batch.rows import Rows
from dpfunc.persample.whole_batch.schedule import (
    BRIEFLY_ALONE,
    Due,
    Known,
    Learned,
    due_on_way,
    known_places,
)
from dpfunc.persample.whole_batch.sizes import repeated
from dpfunc.persample.whole_batch.verify import writes
from dpfunc.types import Tensors


class _Open(NamedTuple):
    """A forward pass that has begun. ``buffers``: as they were.

    ``draws``, ``outputs``: see `Call`. ``inputs``: those with samples, and their `writes` before.
    """

    tape: Tape
    places: Places
    microbatch: Microbatch
    call: tuple[tuple[Any, ...], dict[str, Any]]
    buffers: dict[str, tuple[int, int]]
    draws: tuple[Place | None, ...]
    outputs: tuple[Place | None, ...]
    stance: Any
    inputs: tuple[list[Tensor], list[int]]


class WatchedForward:
    """The forward pass of ``module`` with the trainable ``params``.

    ``current``: the microbatch that a forward pass in training mode belongs to, or an error.
    ``sharded``: of a model whose parameters lie on several processes. ``draws``: whether a batch
    has drawn at random. ``costs``: of looks.
    """

    def __init__(
        self,
        module: nn.Module,
        params: Tensors,
        current: Callable[[], Microbatch],
        sharded: FullySharded | None = None,
    ) -> None:
        self._module = module
        self._params = params
        self._current = current
        self._sharded = sharded
        self._whole: Tensors | None = None
        self.draws, self._paused, self.costs = False, False, LookCosts()
        self._open: list[_Open] = []
        self._outputs: dict[str, list[Place | None]] = {}
        self._verified: dict[str, dict[Any, Any]] = {}

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """The hook that runs before the forward pass."""
        if self._paused or not (module.training and torch.is_grad_enabled()):
            return None
        microbatch = self._current()
        if transforms_above(0):
            raise derivative("torch.func around the model")
        call = replace_tensors((args, kwargs), unwatched) if any_watched((args, kwargs)) else None
        plain = call or (args, kwargs)
        if not microbatch.passes:
            for param in self._params.values():
                param.grad = None  # so that what ordinary autograd adds is seen
        stance = torch.compiler.set_stance("force_eager")  # taps are not seen in what is compiled
        with stance, in_own_words("PrivacyEngine"):
            places, draws, outputs = self._places(plain, microbatch)
        probe = torch.zeros((), device=microbatch.mask.device, requires_grad=True)
        rows = Rows(places, probe, "different")
        tape = Tape(RULES, dict(self._params), microbatch.record, rows)
        microbatch.passes.append(Pass(tape, places, rows))
        inputs = [t for t in tensors_in(plain) if t.dim() > 0 and t.shape[0] == microbatch.size]
        own, buffers, before = (args, kwargs), buffers_of(self._module), (inputs, writes(inputs))
        self._open.append(
            _Open(tape, places, microbatch, own, buffers, draws, outputs, stance, before)
        )
        stance.__enter__()
        tape.__enter__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return call

    def after(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        """The hook that runs after it, also where it has raised."""
        if self._paused or not self._open:
            return
        opened = self._open.pop()
        tape, places, microbatch, call, buffers, draws, outputs, stance, _ = opened
        tape.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # as above
        stance.__exit__(None, None, None)
        if output is None:  # the forward pass has raised
            return
        places.finish()
        require_untouched(*opened.inputs, buffers, buffers_of(self._module))
        again = in_modes(self._module, self.plain)  # as forward left it: what it remembers shows
        microbatch.program.note(again, *call, output, draws=draws, outputs=outputs)
        with torch._C.DisableTorchFunctionSubclass():  # the loop itself may register none
            for tensor in tensors_in(output):
                if tensor.requires_grad:
                    tensor.register_hook(refuse_unseen(microbatch.program))

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass without a tape."""
        with self.paused():
            if self._whole is not None:
                return functional_call(self._module, self._whole, args, kwargs)
            return self._module(*args, **kwargs)

    def name(self, name: str, param: Tensor) -> None:
        """``param`` is the parameter of this name in the forward pass under way."""
        if self._open and not self._paused:
            self._open[-1].tape.give_name(name, param)

    @contextmanager
    def whole(self, due: bool) -> Iterator[Tensors | None]:
        """The parameters as leaves, for a look at the model if one is ``due``, else None.

        Where parameters are sharded, all processes look where it is due on one of them.
        """
        if self._sharded is None:
            yield self._params if due else None
            return
        with self._sharded.looking(due) as whole:
            self._whole = whole
            try:
                yield whole
            finally:
                self._whole = None

    @contextmanager
    def in_float64(self) -> Iterator[Tensors]:
        """The parameters as leaves of float64; inside, the module runs with these numbers."""
        before, own = self._whole, self._whole or self._params
        self._whole = {n: in_float64(param.detach()).requires_grad_() for n, param in own.items()}
        try:
            with Widened():
                yield self._whole
        finally:
            self._whole = before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the module runs as it would without these hooks."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def undisturbed(self) -> AbstractContextManager[None]:
        """Inside, runs of the module leave no trace in its buffers and in torch's generators."""
        return undisturbed(self._module, self._params, self.paused())

    def _places(
        self, call: Any, microbatch: Microbatch
    ) -> tuple[Places, tuple[Place | None, ...], tuple[Place | None, ...]]:
        """The places of this call, those of its draws, and those of its outputs.

        Where a look is due, it takes place when the batch's gradients are there; at once where
        parameters are sharded. A few samples of a model that draws are looked at at once: later, no
        run is like this one, and the model may have changed.
        """
        loss, batch, outputs, key = self._as_loss(call, microbatch.size)
        params = {name: param.detach() for name, param in self._params.items()}

        def look(due: Due, first: Tensor | None = None, *, whole: bool = False) -> Learned:
            learn = partial(learned_places, loss, "different", params, batch)
            of_all = partial(learn, samples=microbatch.size, together=True)
            with self.undisturbed(), told_as_of_a_model():
                if whole:
                    return of_all()
                try:
                    if due == Due.BRIEFLY:
                        return learn(together=False, alone=BRIEFLY_ALONE, like=known.like)
                    return learn(first=first, together=True)
                except OffPlanError:  # all take another way than a few of them
                    return of_all()

        is_new = key not in self._outputs
        known = Known(None, Due.CLOSELY) if is_new else known_places(loss, params, batch)
        learned, is_brief = known.learned, self.draws and known.due == Due.BRIEFLY
        with self.whole(known.due != Due.NOTHING) as whole, self.costs.timed():
            if whole is not None:
                params = {name: param.detach() for name, param in whole.items()}
                self._learn_outputs(key, outputs, params, batch)
                if self._sharded is not None:
                    learned = look(Due.CLOSELY)
                elif self.draws:
                    learned = look(Due.BRIEFLY)
                    self.costs.count(Due.BRIEFLY if is_brief else Due.NOTHING)
                elif learned is None:
                    with self.undisturbed(), told_as_of_a_model():
                        learned = places_to_try(loss, "different", params, batch, known)
                    known = known._replace(due=due_on_way(loss.verified, known, learned))
        if learned is None:
            raise AssertionError("a look that is due takes place")
        microbatch.looks_later = self._sharded is None
        microbatch.verified.append((loss.verified, known.keys))
        if self._sharded is None and known.due != Due.NOTHING and not is_brief:
            microbatch.due = max(microbatch.due, known.due)
            microbatch.model_looks.append(look)
        program = microbatch.program
        program.model_rounding = max(program.model_rounding, learned.rounding)
        microbatch.finest = min(microbatch.finest, learned.rounding)
        again = None if self._sharded is not None else lambda: look(Due.CLOSELY, whole=True).seen
        places = Places(microbatch.size, learned.seen, again)
        return places, learned.draws, tuple(self._outputs[key])

    def _as_loss(
        self, call: Any, size: int
    ) -> tuple[Batched, tuple[Tensor, ...], Callable[..., list[Tensor]], str]:
        """The module as a loss of the tensors in ``call`` that have samples on axis 0.

        The loss, those tensors, the outputs as a function of them, and what the call is.
        """
        tensors = tensors_in(call)
        with_samples = [tensor.dim() > 0 and tensor.shape[0] == size for tensor in tensors]
        if not any(with_samples):
            raise ValueError(
                f"PrivacyEngine: expected the {size} samples of the batch on axis 0 of the model's "
                f"inputs but got the shapes {[tuple(t.shape) for t in tensors]}; pass the batch "
                "as the engine's loader gave it, whole, and let the model transpose it."
            )
        batch = tuple(t.detach() for t, own in zip(tensors, with_samples, strict=True) if own)
        key = structure_of(call)

        def outputs(params: Tensors, batch: tuple[Tensor, ...]) -> list[Tensor]:
            rows, own = iter(batch), iter(with_samples)
            args, kwargs = replace_tensors(call, lambda t: next(rows) if next(own) else t)
            return tensors_in(functional_call(self._module, params, args, kwargs))

        def loss_fn(params: Tensors, *batch: Tensor) -> Tensor:
            return combined_outputs(outputs(params, batch), self._outputs[key], batch[0].shape[0])

        loss_fn = in_modes(self._module, loss_fn)  # the loop may call eval() before its step
        return Batched(loss_fn, self._verified.setdefault(key, {})), batch, outputs, key

    def _learn_outputs(
        self,
        key: str,
        outputs: Callable[..., list[Tensor]],
        params: Tensors,
        batch: tuple[Tensor, ...],
    ) -> None:
        """Where the samples are in the outputs of such a call, unless it is known."""
        if key not in self._outputs:
            with self.undisturbed(), Chance("none"):
                one = take(batch, slice(0, 1))
                two, three = (outputs(params, repeated(one, 1, n)) for n in (2, 3))
                self._outputs[key] = output_places(two, three)
