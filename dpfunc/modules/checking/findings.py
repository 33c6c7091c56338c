"""What runs have shown, in the words of a report."""

from collections.abc import Iterator

from dpfunc.modules.checking.calls import moved_rows, place_of
from dpfunc.modules.checking.report import Problem
from dpfunc.modules.checking.running import ForwardError, Run
from dpfunc.modules.checking.state import same


def changes(runs: list[Run]) -> Iterator[Problem]:
    """Parameters, buffers and data that forward has changed."""
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


def unused(runs: list[Run]) -> Iterator[Problem]:
    """Parameters that none of the runs has used."""
    for name in runs[0].unused or []:
        if all(name in (run.unused or []) for run in runs):
            yield Problem(
                name,
                "what is returned does not use this parameter",
                "none; but it would receive noise and no signal",
                "freeze it with requires_grad_(False), or remove it",
                "warning",
            )


def remembered(run: Run, other: Run) -> Iterator[Problem]:
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


def incomparable(run: Run, size: int) -> Iterator[Problem]:
    """Results in which samples cannot be compared."""
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

    if any(values.isnan().any() for values in run.outputs):
        yield Problem(
            "",
            "what is returned is not a number (NaN) in places",
            "whether samples mix there cannot be seen, and samples whose gradient is not finite "
            "are dropped",
            "pass data for which the result is finite, or mend the model",
            "warning",
        )


def chance(run: Run, redrawn: list[Run]) -> Iterator[Problem]:
    """Results that change when chance draws anew."""
    if any(moved_rows(run.outputs, other.outputs, 1).any() for other in redrawn):
        yield Problem(
            "",
            "two runs on the same data differ, with dropout left out",
            "draws that samples share would mix them; they come from torch's generator, which has "
            "to be as secret as the noise",
            'pass randomness="different", and do not seed torch in a private run',
            "warning",
        )


def raises(raised: ForwardError) -> Problem:
    """What was run has raised."""
    return Problem(
        raised.path,
        f"raises {type(raised.error).__name__}: {raised.error}",
        "it cannot be trained, and what comes after it was not checked",
        "mend it; the batch needs samples on axis 0 of every tensor",
    )


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
