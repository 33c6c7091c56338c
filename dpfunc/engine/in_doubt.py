"""Is it mixing or rounding where parts of a batch disagree? A replay goes in, an answer comes out.

Rounding leaves a sample's gradient where it is when other samples are replaced in the same shape,
and parts agree in float64.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor

from dpfunc.engine.replaying import Replay, ReplayError
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, leaf_norms
from dpfunc.persample.whole_batch.parts import Held, PartsDifferError
from dpfunc.persample.whole_batch.replaced import stay_where_others_are_replaced
from dpfunc.types import Tensors

Again = Callable[[Replay, Tensor | None], Mapping[str, Factored]]
"""The gradients of the batch, run as it ran, with ``samples[i]`` in place i if some are given."""


class NotInFloat64Error(Exception):
    """The loop, or the device, cannot do it; the message is why."""


def gradients_stay(
    again: Again, replay: Replay, rounding: float, reduction: str, first: Tensor | None
) -> bool | None:
    """Whether no sample's gradient changes with the others; None where it takes another way."""
    try:
        own = again(replay, None)
        norms = global_norm(leaf_norms(own))
        times = float(len(norms)) if reduction == "mean" else 1.0
        held = Held(own, times * norms, rounding, times)
        return stay_where_others_are_replaced(held, lambda of: again(replay, of), first)
    except (PartsDifferError, ReplayError):
        return None


def agree_in_float64(
    compared: Callable[[Replay, Tensors], list[str]],
    replay: Replay,
    widely: Callable[[], AbstractContextManager[Tensors]],
) -> bool:
    """Whether all that differed was rounding; `NotInFloat64Error` where nobody can tell."""
    try:
        with widely() as params:
            return not compared(replay.in_float64(), params)
    except Exception as error:  # of any kind: a loop that was not written for float64 runs here
        cause = error.__cause__ or error
        said = str(cause).partition("\n")[0]
        raise NotInFloat64Error(f"{type(cause).__name__}: {said}") from error
