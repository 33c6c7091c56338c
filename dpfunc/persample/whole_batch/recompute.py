"""Activation checkpointing of a loss of the whole batch: parts that run again during backward.

`torch.utils.checkpoint` keeps the input of a part alone, and runs it again when backward needs what
its operations had saved. They have to save the same things as before, so the part has to run under
the same rules, with the samples in the same places; and that it runs is seen by the hooks on saved
tensors that are in force meanwhile.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dpfunc.checks import require
from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.whole_batch.places import Found, Place, Places, one_axis, saving_hook


class Recalled(Places):
    """The places of a run, or of several, for a part. Where that is, the questions tell.

    ``runs``: the places of whole runs of one batch, which have ended.
    """

    def __init__(self, *runs: Places) -> None:
        super().__init__(runs[0].size, tuple(seen for run in runs for seen in run.seen))
        begins = accumulate((len(run.seen) for run in runs), initial=0)
        self._parts = {
            begin + at for begin, run in zip(begins, runs, strict=False) for at in run.parts
        }
        self.restart()

    def restart(self) -> None:
        """A part begins, one of all."""
        self._here = set(self._parts)

    def find(self, operation: str, values: Tensor) -> Found:
        return self._answer(operation, [at for at in self._here if self._is_at(at, values)], 1)

    def next(self, operation: str) -> Place | None:
        return one_axis(operation, self._answer(operation, list(self._here), 0))

    def check(self, operation: str, values: Tensor) -> None:
        self.find(operation, values)

    def _is_at(self, at: int, values: Tensor) -> bool:
        plan = self.plan or ()
        return at < len(plan) and plan[at].shape_of(self.size) == tuple(values.shape)

    def _answer(self, operation: str, found: list[int], further: int) -> Found:
        plan = self.plan or ()
        found = [at for at in found if at < len(plan) and plan[at].operation == operation]
        places = {plan[at].place for at in found}
        if len(places) != 1:
            why = "samples could be on several axes" if places else "it did not run there before"
            raise RuntimeError(
                f"batched: expected to recompute a checkpointed part as it ran but in {operation} "
                f"{why}; leave checkpoint out there, or change the size of the (micro)batch."
            )
        self._here = {at + further for at in found}
        return places.pop()


class Recomputing(TorchFunctionMode):
    """For backward: what is recomputed inside runs under the rules of ``tape``.

    ``leaves``: the parameters of the loss, and what it derived of them alone. A module whose call
    by ``functional_call`` has ended uses its own parameters when it runs again: they are taken for
    those leaves with which they share their memory, as `named_params` does.
    """

    def __init__(self, tape: Tape, places: Recalled, leaves: Sequence[Tensor]) -> None:
        super().__init__()
        self._tape = tape
        self._places = places
        self._leaves = leaves
        self._outside = self._part = saving_hook()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        hook = saving_hook()
        if hook is self._outside:
            return func(*args, **kwargs)
        if hook is not self._part:
            self._part = hook
            self._places.restart()
        if any(map(self._is_strange, tensors_in((args, kwargs)))):
            args, kwargs = replace_tensors((args, kwargs), self._leaf)
        return self._tape.__torch_function__(func, types, args, kwargs)

    def _is_strange(self, values: Tensor) -> bool:
        return values.requires_grad and values.is_leaf and self._tape.name(values) is None

    def _leaf(self, values: Tensor) -> Tensor:
        if not self._is_strange(values):
            return values
        same = [leaf for leaf in self._leaves if _memory(leaf) == _memory(values)]
        require(
            len(same) > 0 or not isinstance(values, nn.Parameter),
            "batched",
            "a checkpointed module to have the parameters of the loss when it runs again",
            f"others, of shape {tuple(values.shape)}",
            "update them in place, as optimisers do with named_params(module), or call "
            "functional_call inside of what is checkpointed",
            error=RuntimeError,
        )
        return same[0] if same else values


def _memory(values: Tensor) -> tuple[Any, ...]:
    if not have_numbers(values):
        return (id(values),)
    return values.data_ptr(), values.dtype, values.shape, values.stride()
