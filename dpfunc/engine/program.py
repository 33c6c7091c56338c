"""What an ordinary loop does between a model and ``loss.backward()``, written down to be run again.

The outputs of the model are `Watched` tensors: each torch function that takes one is noted, with
its arguments and its result. The notes are a program: on other data of other size it computes the
loss that the loop would have computed there, without the loop's own Python code.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.whole_batch.draws import is_draw, place_of_draw
from dpfunc.persample.whole_batch.places import Place

_SCALING = {
    *("mul", "imul", "rmul", "multiply", "div", "idiv", "truediv", "itruediv", "rtruediv"),
    *("divide", "true_divide", "rdiv"),
}


_ASSIGNS_DATA = vars(torch._C.TensorBase)["data"].__set__  # for mypy .data is a tensor


class Watched(Tensor):
    """A tensor made of a model's outputs. It is a plain one again when its batch is over."""

    _program: "Program"

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        found = [t._program for t in tensors_in((args, kwargs)) if isinstance(t, Watched)]
        with torch._C.DisableTorchFunctionSubclass():
            if not found:
                return func(*args, **kwargs)
            return found[-1].run(func, args, kwargs)

    def unwatched(self) -> Tensor:
        """The same numbers, for whoever is no part of the loop, such as a checkpoint."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(Tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return copy.deepcopy(self.unwatched(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.unwatched().__reduce_ex__(protocol)

    def __format__(self, spec: str) -> str:
        return format(self.unwatched().detach(), spec)

    def __repr__(self) -> str:  # type: ignore[override]  # torch's keyword is its own affair
        return repr(self.unwatched())


class Call(NamedTuple):
    """One call: ``function(*args, **kwargs)`` gave ``result``, under this autocast dtype or None.

    ``writes``: whether it changed an argument in place. ``has_gradient``: whether gradients were
    on. ``draws``: where the samples are in what it has drawn at random, see `Draws`. ``outputs``:
    where they are in what the model has returned; empty for other calls.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    autocast: torch.dtype | None
    writes: bool
    has_gradient: bool
    draws: tuple[Place | None, ...]
    outputs: tuple[Place | None, ...] = ()


class Program:
    """The calls of one batch, from the model to the losses that were backpropagated.

    ``device_type``: where autocast is looked up. ``size``: so many samples. ``around_backward``: a
    context that every backward pass runs in. ``inputs``: by identity, the tensors of the batch,
    which have samples on axis 0. ``originals``: those that the loop has written to, as they were
    before: what a batch became together would hide that. ``running_backward``: whether a backward
    pass runs that began at a loss of this program. ``model_rounding``: of the coarsest number
    inside of the model, which may run in low precision where its inputs and outputs do not show it.
    """

    def __init__(
        self,
        device_type: str,
        size: int,
        around_backward: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.losses: list[Tensor] = []
        self.inputs: set[int] = set()
        self.originals: dict[int, Tensor] = {}
        self.running_backward = False
        self.model_rounding = 0.0
        self.size = size
        self.device_type = device_type
        self._around_backward = around_backward
        self._calls: list[Call] = []
        self._watched: list[Tensor] = []

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``function``, and note the call."""
        if function is Tensor.backward:
            return self._backward(*args, **kwargs)
        if function is torch.autograd.grad:
            raise RuntimeError(
                "PrivacyEngine: expected one kind of gradient, that of loss.backward(), but "
                "torch.autograd.grad was called on what the model returned (a gradient penalty?); "
                "use PrivateGrad, whose loss of one sample may contain torch.func.grad."
            )
        if function is Tensor.register_hook:
            raise RuntimeError(
                "PrivacyEngine: expected a loss without hooks on tensors but register_hook was "
                "called on what the model returned: no check sees what a hook does to gradients. "
                "Multiply by what the hook multiplies with, or leave it out."
            )
        if function == _ASSIGNS_DATA:
            raise RuntimeError(
                "PrivacyEngine: expected a loop that computes with tensors but a tensor's .data is "
                "assigned, which no look sees; use the tensor itself, or detach()."
            )
        name = getattr(function, "__name__", "")
        writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        self._keep(args[:1] if writes or name.startswith("__i") else (), kwargs.get("out"))
        result = function(*args, **kwargs)
        writes = writes or (name.startswith("__i") and result is args[0])
        if writes or tensors_in(result):
            drawn = is_draw(function) and isinstance(result, Tensor)
            draws = (place_of_draw(result, self.size),) if drawn else ()
            self.note(function, args, kwargs, result, writes=writes, draws=draws)
        return result

    def note(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        *,
        writes: bool = False,
        draws: tuple[Place | None, ...] = (),
        outputs: tuple[Place | None, ...] = (),
    ) -> None:
        """Note a call that was made, and watch its result."""
        autocast = None
        if torch.is_autocast_enabled(self.device_type):
            autocast = torch.get_autocast_dtype(self.device_type)
        has_gradient = torch.is_grad_enabled()
        self._calls.append(
            Call(function, args, kwargs, result, autocast, writes, has_gradient, draws, outputs)
        )
        self._watch(tensors_in(result))

    def watch(self, inputs: list[Tensor]) -> None:
        """Watch the tensors of the batch itself: what is computed from them is noted as well."""
        self.inputs.update(map(id, inputs))
        self._watch(inputs)

    def _keep(self, *targets: Any) -> None:
        """Tensors of the batch as they are before their memory is written to."""
        if memory := _memory(tensors_in(targets)):
            for tensor in self._watched:
                known = id(tensor) not in self.inputs or id(tensor) in self.originals
                if not known and memory & _memory([tensor]):
                    self.originals[id(tensor)] = tensor.detach().clone()

    def _watch(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if type(tensor) is Tensor:
                tensor.__class__ = Watched
                tensor._program = self  # type: ignore[attr-defined]  # a Watched by now
                self._watched.append(tensor)

    def leaves(self) -> dict[int, Tensor]:
        """By identity, the tensors that the losses are made of and that no call has made."""
        made: set[int] = set()
        found: dict[int, Tensor] = {}
        for call in self.needed():
            for tensor in tensors_in((call.args, call.kwargs)):
                if id(tensor) not in made:
                    found[id(tensor)] = tensor
            made.update(map(id, tensors_in(call.result)))
        return found

    def numbers(self) -> list[float]:
        """The Python numbers in the loop's calls, in order: fractions, and whole factors.

        Other whole numbers are sizes, axes and powers.
        """
        found: list[float] = []
        for call in self.needed():
            scales = getattr(call.function, "__name__", "").strip("_") in _SCALING

            def note(part: Any, scales: bool = scales) -> None:
                if isinstance(part, Real) and (scales or not isinstance(part, Integral)):
                    found.append(float(part))

            replace_tensors((call.args, call.kwargs), lambda _: None, other=note)
        return found

    def rounding(self) -> float:
        """Of the coarsest floating-point number on the way to the losses."""
        coarsest = self.model_rounding
        for call in self.needed():
            tensors = tensors_in((call.args, call.kwargs, call.result))
            dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
            for dtype in dtypes | ({call.autocast} if call.autocast else set()):
                coarsest = max(coarsest, torch.finfo(dtype).eps)
        return coarsest

    def with_gradient(self) -> set[int]:
        """By identity, the tensors that a gradient of the losses comes to."""
        reached = set(map(id, self.losses))
        for call in reversed(self.needed()):
            made = [t for t in tensors_in(call.result) if t.requires_grad]
            if call.has_gradient and (call.writes or reached & set(map(id, made))):
                reached.update(map(id, tensors_in((call.args, call.kwargs))))
        return reached

    def calls_of_model(self) -> list[Call]:
        """All of them, in order."""
        return [call for call in self._calls if call.outputs]

    def close(self) -> None:
        """Forget everything. What was watched is plain from now on."""
        for tensor in self._watched:
            tensor.__class__ = Tensor
            del tensor._program  # type: ignore[attr-defined]  # it was a Watched
        self._calls, self._watched, self.losses, self.originals = [], [], [], {}

    def needed(self) -> list[Call]:
        """The calls that the losses depend on: those that made them or wrote to their memory."""
        wanted, memory = set(map(id, self.losses)), _memory(self.losses)
        needed: list[Call] = []
        for call in reversed(self._calls):
            made, used = tensors_in(call.result), tensors_in((call.args, call.kwargs))
            if wanted & set(map(id, made)) or (call.writes and memory & _memory(used[:1])):
                needed.append(call)
                wanted.update(map(id, used))
                memory |= _memory(used)
        return needed[::-1]

    def _backward(
        self,
        loss: Tensor,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        if loss.dim() > 0 or gradient is not None or inputs is not None:
            raise RuntimeError(
                "PrivacyEngine: expected loss.backward() of a scalar but it was called with a "
                f"gradient or inputs, or on a tensor of shape {tuple(loss.shape)}; reduce the "
                "losses of the samples with .mean() or .sum() first."
            )
        if not loss.requires_grad:
            raise RuntimeError(
                "PrivacyEngine: expected loss.backward() of a loss that has a gradient but got one "
                "without (computed under torch.no_grad(), or detached); leave those out."
            )
        self.losses.append(loss)
        self.running_backward = True
        try:
            with self._around_backward():
                # Of the edge: modes of torch functions are off while a function of tensors runs.
                edge, one = get_gradient_edge(loss), torch.ones_like(loss)
                torch.autograd.backward(edge, one, retain_graph, create_graph)
        finally:
            self.running_backward = False


def _memory(tensors: list[Tensor]) -> set[int]:
    """Where the numbers of these tensors are: views of one tensor have one place."""
    with torch._C.DisableTorchFunctionSubclass():
        return {tensor.untyped_storage().data_ptr() for tensor in tensors}
