"""When a loss of the whole batch is looked at, and how closely: by its structure and its shapes.

A structure is the loss without the lengths of its axes: texts padded to 31 and to 47 tokens are of
one. Every structure is looked at closely in its first batch and after 1, 2, 4, 8, ... batches, so
that a dependence that begins at batch n is met by batch 2n. Each shape is looked at in its first
batch and after 1, 2, 4, 8, ... batches of that shape as well, as code may branch on a length:
briefly at first, at two samples alone, and closely after 4.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from dpfunc.persample.batches.batch import batch_size, map_tensors
from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.whole_batch.places import Place, Seen
from dpfunc.types import Tensors

FEW_SAMPLES = 3
"""So many samples are compared with themselves in a batch of one."""

BRIEFLY_ALONE = 2
"""So many of them in a brief look: the one that others depend on need not depend on any."""

_CLOSELY_AFTER = 4  # batches of one shape
_OWED = "owed"  # where the look is kept that has not gone well yet


class Learned(NamedTuple):
    """``seen``: see `Places`. ``different``: from how many different samples it is.

    ``rounding``: of the coarsest number in the loss. ``draws``: see `Draws`. ``sizes``: lengths of
    axes in the loss. ``uses``: in how many batches it has served. Looks come after 1, 2, 4, 8, ...
    of them: a dependence that did not show in one batch may show in the next.
    """

    seen: tuple[Seen, ...]
    different: int
    rounding: float
    uses: int = 0
    draws: tuple[Place | None, ...] = ()
    sizes: frozenset[int] = frozenset()


class Due(IntEnum):
    """How closely a batch is to be looked at."""

    NOTHING = 0
    BRIEFLY = 1
    CLOSELY = 2


class Known(NamedTuple):
    """What is known of a loss on such a batch, None if nothing is, and which look is due.

    ``like``: what is known of the same structure in other lengths.
    """

    learned: Learned | None
    due: Due
    like: Learned | None = None


def is_time_to_look(times: int) -> bool:
    """At first, and after 1, 2, 4, 8, ... times."""
    return times & (times - 1) == 0


def known_places(loss_fn: Batched, params: Tensors, batch: tuple[Any, ...]) -> Known:
    """What is known of ``loss_fn`` on such a batch, which is counted as one more.

    A look that is due stays due until it has gone well: see `settle`.
    """
    keys, verified = _keys(params, batch), loss_fn.verified
    of_shape, of_structure = (verified.get(key) for key in keys)
    for key in keys:
        if key in verified:
            verified[key] = verified[key]._replace(uses=verified[key].uses + 1)
    # While a graph is captured there are no numbers to look at; there were, when it ran before.
    if of_shape is not None and not have_numbers(batch):
        return Known(of_shape, Due.NOTHING)
    few = min(batch_size(batch), FEW_SAMPLES)
    if of_structure is None or (of_shape or of_structure).different < few:
        verified[_OWED] = Due.CLOSELY
        return Known(None, Due.CLOSELY)
    due = _due(of_structure.uses, 0 if of_shape is None else of_shape.uses)
    due = max(due, verified.get(_OWED, Due.NOTHING))
    verified[_OWED] = due
    return Known(of_shape, due, of_structure)


def settle(verified: dict[Any, Any]) -> None:
    """Of the loss that has ``verified`` no look is due any more: it went well."""
    verified[_OWED] = Due.NOTHING


def keep(loss_fn: Batched, params: Tensors, batch: tuple[Any, ...], learned: Learned) -> None:
    """From now on ``learned`` is known of ``loss_fn`` on such a batch."""
    for key in _keys(params, batch):
        before: Learned | None = loss_fn.verified.get(key)
        uses = 1 if before is None else before.uses
        loss_fn.verified[key] = learned._replace(uses=uses)


def _due(uses_of_structure: int, uses_of_shape: int) -> Due:
    if is_time_to_look(uses_of_structure):
        return Due.CLOSELY
    if not is_time_to_look(uses_of_shape):
        return Due.NOTHING
    return Due.CLOSELY if uses_of_shape >= _CLOSELY_AFTER else Due.BRIEFLY


def _keys(params: Tensors, batch: tuple[Any, ...]) -> tuple[Any, Any]:
    """What shapes and what structures are kept by."""
    shapes = map_tensors(lambda values: (values.dtype, values.shape[1:]), batch)
    kinds = map_tensors(lambda values: (values.dtype, values.dim()), batch)
    of_params = tuple((name, param.shape) for name, param in params.items())
    return (str(shapes), of_params), (str(kinds), of_params, "structure")
