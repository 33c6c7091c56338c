"""What running a module or a loss on a few samples tells; the module is left as it was."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from dpfunc.modules.checking.findings import (
    chance,
    changes,
    incomparable,
    raises,
    remembered,
    unused,
)
from dpfunc.modules.checking.mixing import mixing
from dpfunc.modules.checking.report import Problem
from dpfunc.modules.checking.running import ForwardError, Run, Runner, forward_of, nearby
from dpfunc.modules.checking.state import Kept
from dpfunc.modules.parameters import named_params
from dpfunc.persample.batches.batch import as_args, batch_size, map_tensors, take
from dpfunc.persample.batches.nested import tensors_in
from dpfunc.persample.definition.loss import Batched, LossFn
from dpfunc.persample.factored import factored_grad
from dpfunc.persample.whole_batch.schedule import FEW_SAMPLES
from dpfunc.persample.whole_batch.sizes import repeated, size_that_divides_none

_FIRST_LOOK = 4  # so many samples show the lengths of all axes


def probe(module: nn.Module, loss_fn: LossFn | None, batch: Any) -> list[Problem]:
    """The problems that show when ``loss_fn``, or without one ``module`` itself, is run."""
    devices = {tensor.device for tensor in (*module.parameters(), *tensors_in(batch))}
    params, kept = named_params(module), Kept(module, devices)
    runner = Runner(module, forward_of(module, loss_fn), nearby(params), kept)
    found: list[Problem] = []
    try:
        search = _one_sample if _takes_one(loss_fn) else _whole_batch
        for problem in search(runner, batch):  # what was found before a run raises is kept
            found.append(problem)
        if loss_fn is not None and not any(at.severity == "error" for at in found):
            found.extend(_refused(loss_fn, runner, take(batch, slice(0, FEW_SAMPLES))))
    except ForwardError as raised:
        found.append(raises(raised))
    finally:
        kept.restore_generators()
    return found


def _takes_one(loss_fn: LossFn | None) -> bool:
    return loss_fn is not None and not isinstance(loss_fn, Batched)


def _one_sample(runner: Runner, batch: Any) -> Iterator[Problem]:
    samples = [take(batch, i) for i in range(min(FEW_SAMPLES, batch_size(batch)))]
    runs = [runner.run(sample, backward=True) for sample in samples]
    redrawn = _redrawn(runner, samples[0])
    yield from changes(runs)
    yield from unused([*runs, *redrawn])
    if len(runs) > 1:
        yield from remembered(*runs[:2])
    yield from chance(runs[0], redrawn)


def _whole_batch(runner: Runner, batch: Any) -> Iterator[Problem]:
    few = min(_FIRST_LOOK, batch_size(batch))
    first_look = runner.run(_repeated(batch, few, max(2, few)))
    size = size_that_divides_none(_lengths(first_look) - {0, 1}, few)
    batch = _repeated(batch, min(size, batch_size(batch)), size)
    run, redrawn = runner.run(batch, backward=True), _redrawn(runner, batch)
    yield from changes([run])
    yield from unused([run, *redrawn])
    yield from incomparable(run, size)
    yield from chance(run, redrawn)
    yield from mixing(runner, batch, run, size)


def _redrawn(runner: Runner, batch: Any) -> list[Run]:
    """Runs in which chance may decide otherwise: two, because it can agree once."""
    return [runner.run(batch, backward=True, new_draws=True) for _ in range(2)]


def _refused(loss_fn: LossFn, runner: Runner, batch: Any) -> Iterator[Problem]:
    # A mark of its own, so that nothing is learned for the user's.
    own = Batched(loss_fn.loss_fn) if isinstance(loss_fn, Batched) else loss_fn
    args = tuple(as_args(map_tensors(torch.clone, batch)))
    try:
        factored_grad(own, randomness="different")(named_params(runner.module), *args)
    except Exception as error:
        yield Problem(
            "",
            f"the engine refuses it: {type(error).__name__}: {error}",
            "it cannot be trained with the factored engine, the default",
            'do as the message says; engine="dense" takes some losses that this one refuses',
        )
    finally:
        runner.kept.restore()


def _repeated(batch: Any, different: int, size: int) -> Any:
    return repeated((batch,), different, size)[0]


def _lengths(run: Run) -> set[int]:
    tensors = [tensor for call in run.calls for tensor in (*call.inputs, *call.outputs)]
    return {length for tensor in (*tensors, *run.outputs) for length in tensor.shape}
