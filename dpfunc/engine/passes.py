"""The samples that go through the model now, and all that was noted of them."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from dpfunc.engine.chance_taken import ChanceTaken
from dpfunc.engine.program import Program
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.watched_rows import collected
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.whole_batch.places import Places
from dpfunc.persample.whole_batch.recompute import Recalled, Recomputing
from dpfunc.persample.whole_batch.rows import Rows
from dpfunc.persample.whole_batch.schedule import Due
from dpfunc.types import Tensors


class Pass(NamedTuple):
    """A forward pass of the model: what watched it, and where its samples were."""

    tape: Tape
    places: Places
    rows: Rows


ModelLook = Callable[[Due, Tensor | None], Any]
"""Looks at a call of the model alone, and among its samples at these first; or raises."""


@dataclass
class Microbatch:
    """The samples that the model sees now, and all that was noted of them.

    ``mask``: bool ``[B]``, False for a sample that only fills up. ``last``: of its batch.
    ``divided_by``: what the loop divides its loss by, beside the reduction over samples. ``shard``:
    of its batch. ``due``: how closely a call of the model is to be looked at, and ``model_looks``:
    the looks, which decide where parts of the batch disagree. ``chance``: whether anything was
    drawn. ``verified``: what is known of those calls, and their keys there. ``looks_later``:
    whether parts are compared. ``finest``: rounding of a call of the model.
    """

    mask: Tensor
    program: Program
    last: bool
    divided_by: int = 1
    shard: int = 0
    record: Record = field(default_factory=Record)
    passes: list[Pass] = field(default_factory=list)
    due: Due = Due.NOTHING
    model_looks: list[ModelLook] = field(default_factory=list)
    verified: list[tuple[dict[Any, Any], tuple[Any, ...]]] = field(default_factory=list)
    looks_later: bool = True
    finest: float = math.inf
    chance: ChanceTaken = field(default_factory=ChanceTaken)

    @property
    def size(self) -> int:
        return self.mask.shape[0]

    def recomputing(self, params: Tensors) -> AbstractContextManager[Any]:
        """For a backward pass: what is checkpointed runs again in it, under the same rules."""
        if not self.passes:
            return nullcontext()
        recalled = Recalled(*(each.places for each in self.passes))
        first, *others = [each.rows for each in self.passes]
        tape = self.passes[0].tape.again(first.again(recalled, *others))
        derived = {name: value for each in self.passes for name, value in each.rows.derived.items()}
        for name, value in derived.items():
            tape.give_name(name, value)
        return Recomputing(tape, recalled, [*params.values(), *derived.values()])

    def per_sample(self, params: Tensors) -> dict[str, Factored]:
        """The gradients of the losses that were backpropagated, by sample. To be called once."""
        for _, _, rows in self.passes:
            for name, copy in rows.expanded.items():
                if copy.grad is not None:
                    self.record.add(name, Dense(copy.grad))
            rows.finish(self.record)
        return collected(self.record, params, self.size)
