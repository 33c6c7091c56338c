"""Whether the samples of a batch mix: one is changed, and the others are compared."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from dpfunc.modules.checking.calls import first_that_mixes, moved_rows, place_of
from dpfunc.modules.checking.findings import remembered
from dpfunc.modules.checking.report import Problem
from dpfunc.modules.checking.running import Run, Runner
from dpfunc.modules.checking.state import same
from dpfunc.persample.batches.batch import map_tensors
from dpfunc.persample.batches.nested import tensors_in


def mixing(runner: Runner, batch: Any, run: Run, size: int) -> Iterator[Problem]:
    """Samples of ``batch`` that change each other's results; ``run`` is a run on it.

    Sample j is replaced by a copy of another one, for every j in turn. What is returned for the
    samples in all other places may not move.
    """
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
            yield from remembered(run, after)
        alike = False
        moved = _moved_samples(run, after, size)
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


def _mixed(path: str | None) -> Problem:
    inside = "in this layer" if path else "in the module's own forward"
    where = "outside of the module" if path is None else inside
    return Problem(
        path or "",
        f"what is returned for one sample changes with another sample, {where}",
        "one record would move the gradients of the others, which clipping cannot bound",
        "compute each sample on its own: statistics over its own axes, softmax and attention along "
        "its own positions (batch_first?), no sorting of samples",
    )


def _moved_samples(run: Run, after: Run, size: int) -> Tensor:
    """By sample, whether what is returned for it has moved; of the rest nothing can be said."""
    pairs = list(zip(run.outputs, after.outputs, strict=False))
    apart = [(old, new) for old, new in pairs if place_of(old, size) is not None]
    return moved_rows([old for old, _ in apart], [new for _, new in apart], size)


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
