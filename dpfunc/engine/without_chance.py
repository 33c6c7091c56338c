"""The per-sample gradients of a batch as they are without what it drew at random.

Parts of a batch cannot draw as the batch did: dropout is left out of them, and all else is drawn
again, the same for a sample wherever it runs. So the batch runs once more like that, under the tape
and with the places of its samples as they are.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from dpfunc.engine.passes import Microbatch, Pass
from dpfunc.engine.program import Call
from dpfunc.engine.replaying import Replay
from dpfunc.persample.batches.nested import replace_tensors
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.rules import RULES
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.whole_batch.draws import Draws
from dpfunc.persample.whole_batch.parts import PartsDifferError
from dpfunc.persample.whole_batch.places import OffPlanError, Places
from dpfunc.persample.whole_batch.rows import Rows
from dpfunc.types import Tensors


def factored_without_chance(
    replay: Replay, microbatch: Microbatch, params: Tensors, samples: Tensor | None = None
) -> tuple[dict[str, Factored], Draws]:
    """The gradients of the sum of the losses, by sample, and what was drawn with.

    ``samples [B]``: which sample is in each place, if not its own. PartsDifferError where the model
    takes another way without chance, or with these samples.
    """
    again = replace(microbatch, record=Record(), passes=[])
    before = dict(zip(map(id, microbatch.program.calls_of_model()), microbatch.passes, strict=True))
    probe = torch.zeros((), device=microbatch.mask.device, requires_grad=True)

    def watched(call: Call, *args: Any, **kwargs: Any) -> Any:
        places = Places(microbatch.size, tuple(before[id(call)].places.seen))
        rows = Rows(places, probe, "different")
        with Tape(RULES, dict(params), again.record, rows) as tape:
            result = call.function(*args, **kwargs)
        places.finish()
        replay.returned[id(call)] = replace_tensors(result, Tensor.detach)
        again.passes.append(Pass(tape, places, rows))
        return result

    try:
        own = torch.arange(microbatch.size) if samples is None else samples
        total, draws = replay.total(own, run_model=watched)
    except OffPlanError as error:
        raise PartsDifferError from error
    if total.requires_grad:
        _backward(total, probe, again, params)
    return again.per_sample(params), draws


def _backward(total: Tensor, probe: Tensor, again: Microbatch, params: Tensors) -> None:
    """Run the taps, and leave in copies of parameters the gradients that arrive there."""
    copies = [copy for each in again.passes for copy in each.rows.expanded.values()]
    derived = [value for each in again.passes for value in each.rows.derived.values()]
    ends = [get_gradient_edge(end) for end in (probe, *params.values(), *derived, *copies)]
    with again.recomputing(params):
        found = torch.autograd.grad(get_gradient_edge(total), ends, allow_unused=True)
    for copy, grad in zip(copies, found[len(found) - len(copies) :], strict=True):
        copy.grad = grad
