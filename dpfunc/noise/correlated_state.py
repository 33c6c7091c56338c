"""The checks that every release of correlated noise begins with."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch

from dpfunc.checks import require
from dpfunc.types import State, Tensors

FORMAT = 1  # of the state: which noise a step has
_ENTRIES = {"step", "shapes", "bound", "memory", "run", "format"}


def require_same_run(state: State, run: str, entries: int) -> None:
    """ValueError unless the state is of this run, with so many entries of memory."""
    require(
        isinstance(state, dict)
        and state.keys() == _ENTRIES
        and state["format"] == FORMAT
        and state["run"] == run,
        "CorrelatedNoise",
        "a state of this key, noise multiplier and strategy, from init or add",
        "another",
        "load the key that the run was started with, or begin a new run with init and compose "
        "the events of both",
    )
    steps = [entry["step"] for entry in state["memory"]]
    require(
        len(steps) == entries,
        "CorrelatedNoise",
        f"memory of {entries} earlier steps",
        f"that of {steps}",
        "load the whole state: without it earlier noise is not taken back",
    )


@contextmanager
def wiped_after_error(values: Tensors) -> Iterator[None]:
    """Zeros in ``values`` after an error: a copy of a sum is not to stay in its traceback."""
    try:
        yield
    except BaseException as error:
        with wiped(values):
            clear_frames(error.__traceback__)  # what the kernels had in their hands
        raise


@contextmanager
def wiped(values: Tensors) -> Iterator[None]:
    """Zeros in ``values`` at the end, also after an error."""
    try:
        yield
    finally:
        for value in values.values():
            with torch.inference_mode(value.is_inference()):
                value.detach().zero_()
