"""What running a module or a loss on a few samples tells; the module is left as it was."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from dpfunc.checking.calls import first_that_mixes, moved_rows, place_of
from dpfunc.checking.report import Problem
from dpfunc.checking.running import ForwardError, Run, Runner, forward_of, nearby
from dpfunc.checking.state import Kept, same
from dpfunc.modules import named_params
from dpfunc.persample.batch import as_args, batch_size, map_tensors, take
from dpfunc.persample.factored import factored_grad
from dpfunc.persample.loss import Batched, LossFn
from dpfunc.persample.nested import tensors_in
from dpfunc.persample.verify import FEW_SAMPLES, repeated, size_that_divides_none

_FIRST_LOOK = 4  # so many samples show the lengths of all axes


def probe(module: nn.Module, loss_fn: LossFn | None, batch: Any) -> list[Problem]:
    """The problems that show when ``loss_fn``, or without one ``module`` itself, is run."""
    devices = {tensor.device for tensor in (*module.parameters(), *tensors_in(batch))}
    params, kept = named_params(module), Kept(module, devices)
    runner = Runner(module, forward_of(module, loss_fn), nearby(params), kept)
    found: list[Problem] = []
    try:
        search = _one_sample if _takes_one(loss_fn) else _whole_batch
        found.extend(search(runner, batch))
        if loss_fn is not None and not any(at.severity == "error" for at in found):
            found.extend(_refused(loss_fn, runner, take(batch, slice(0, FEW_SAMPLES))))
    except ForwardError as raised:
        found.append(_raises(raised))
    finally:
        kept.restore_generators()
    return found


def _takes_one(loss_fn: LossFn | None) -> bool:
    return loss_fn is not None and not isinstance(loss_fn, Batched)


def _one_sample(runner: Runner, batch: Any) -> Iterator[Problem]:
    samples = [take(batch, i) for i in range(min(FEW_SAMPLES, batch_size(batch)))]
    runs = [runner.run(sample, backward=True) for sample in samples]
    yield from _changes(runs)
    yield from _unused(runs)
    if len(runs) > 1:
        yield from _remembered(*runs[:2])
    yield from _chance(runner, samples[0], runs[0])


def _whole_batch(runner: Runner, batch: Any) -> Iterator[Problem]:
    few = min(_FIRST_LOOK, batch_size(batch))
    first_look = runner.run(_repeated(batch, few, max(2, few)))
    size = size_that_divides_none(_lengths(first_look) - {0, 1}, few)
    batch = _repeated(batch, min(size, batch_size(batch)), size)
    run = runner.run(batch, backward=True)
    yield from _changes([run])
    yield from _unused([run])
    yield from _without_samples(run, size)
    yield from _chance(runner, batch, run)
    yield from _mixing(runner, batch, run, size)


def _changes(runs: list[Run]) -> Iterator[Problem]:
    cells = [cell for run in runs for cell in run.changes]
    written = [name for run in runs for name in run.written]
    for name in _once([*written, *(cell.name for cell in cells if cell.kind == "parameter")]):
        yield Problem(
            name,
            "this parameter is changed in the forward pass itself",
            "the change depends on the data and is released without any noise",
            "do not change parameters in forward",
        )
    for name in _once([cell.name for cell in cells if cell.kind == "buffer"]):
        yield Problem(
            name,
            "this buffer changes in the forward pass",
            "what it remembers of the data becomes part of the model without any noise",
            "do not update it while training, or compute it from public data",
        )
    for place in sorted({place for run in runs for place in run.touched}):
        yield Problem(
            "",
            f"tensor {place} of the batch is changed in place",
            "the guarantee is one about the data as they are: whoever holds this tensor, perhaps "
            "the data set, has other data after the step. dp.batched refuses it",
            "work on a copy, for example x = x.clone()",
            "warning",
        )


def _unused(runs: list[Run]) -> Iterator[Problem]:
    for name in runs[0].unused or []:
        if all(name in (run.unused or []) for run in runs):
            yield Problem(
                name,
                "what is returned does not use this parameter",
                "none; but it would receive noise and no signal",
                "freeze it with requires_grad_(False), or remove it",
                "warning",
            )


def _remembered(run: Run, other: Run) -> Iterator[Problem]:
    """Attributes whose value after a run depends on the data that it was given."""
    left = {cell.name: cell.tensor for cell in run.changes if cell.kind == "attribute"}
    for cell in other.changes:
        if cell.name in left and not same(cell.tensor, left[cell.name]):
            yield Problem(
                cell.name,
                "this attribute keeps what the forward pass has computed from the data",
                "if a later step reads it, or it is saved with the module, data are released "
                "without any noise",
                "return it instead of keeping it on the module",
                "warning",
            )


def _without_samples(run: Run, size: int) -> Iterator[Problem]:
    whole = [values for values in run.outputs if place_of(values, size) is None]
    if whole or not run.outputs:
        shapes = ", ".join(str(tuple(values.shape)) for values in whole) or "no tensor"
        yield Problem(
            "",
            f"what is returned has no axis of samples: {shapes}",
            "whether samples mix in it cannot be seen. A mean over the tokens of the batch mixes "
            "them, through its divisor",
            "check with a loss that returns one number a sample, see dp.batched",
            "warning",
        )


def _chance(runner: Runner, batch: Any, run: Run) -> Iterator[Problem]:
    # Some draws can agree by chance; of three runs, hardly.
    others = [runner.run(batch, new_draws=True) for _ in range(2)]
    if any(bool(moved_rows(run.outputs, other.outputs, 1).any()) for other in others):
        yield Problem(
            "",
            "two runs on the same data differ, with dropout left out",
            "draws that samples share would mix them; they come from torch's generator, which has "
            "to be as secret as the noise",
            'pass randomness="different", and do not seed torch in a private run',
            "warning",
        )


def _mixing(runner: Runner, batch: Any, run: Run, size: int) -> Iterator[Problem]:
    if moved_rows(run.outputs, runner.run(batch).outputs, size).any():
        yield Problem(
            "",
            "two runs with the same draws differ",
            "whether samples mix cannot be seen",
            "draw from torch's default generator only, and see torch.use_deterministic_algorithms",
        )
        return
    alike = True
    for sample in range(size):
        other = _one_that_differs(batch, sample, size)
        if other is None:
            continue
        after = runner.run(_with_copied(batch, other, sample, size))
        if alike:
            yield from _remembered(run, after)
        alike = False
        moved = moved_rows(run.outputs, after.outputs, size)
        moved[sample] = False
        if moved.any():
            felt_by = int(moved.nonzero()[0])
            yield _mixed(first_that_mixes(run.calls, after.calls, sample=felt_by, size=size))
            return
    if alike:
        yield Problem(
            "",
            "all samples of the batch are alike",
            "whether they mix cannot be seen",
            "pass a batch of samples that differ",
            "warning",
        )


def _mixed(path: str) -> Problem:
    where = "in this layer" if path else "outside of the layers"
    return Problem(
        path,
        f"what is returned for one sample changes with another sample, {where}",
        "one record would move the gradients of the others, which clipping cannot bound",
        "compute each sample on its own: statistics over its own axes, softmax and attention along "
        "its own positions (batch_first?), no sorting of samples",
    )


def _raises(raised: ForwardError) -> Problem:
    return Problem(
        raised.path,
        f"raises {type(raised.error).__name__}: {raised.error}",
        "it cannot be trained, and what comes after it was not checked",
        "mend it; the batch needs samples on axis 0 of every tensor",
    )


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


def _one_that_differs(batch: Any, sample: int, size: int) -> int | None:
    for step in range(1, size):
        other = (sample + step) % size
        pairs = [(values[sample], values[other]) for values in tensors_in(batch)]
        if not all(same(*pair) for pair in pairs):
            return other
    return None


def _with_copied(batch: Any, source: int, target: int, size: int) -> Any:
    """``batch`` with sample ``source`` also in the place of ``target``."""
    order = [source if place == target else place for place in range(size)]
    return map_tensors(lambda values: values[order], batch)


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
