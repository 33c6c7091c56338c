"""When a loss of the whole batch is looked at, and how closely: by its structure and its shapes.

A structure is the loss without the lengths of its axes: texts padded to 31 and to 47 tokens are of
one. Every structure is looked at closely in its first batch and after 1, 2, 4, 8, ... batches, so
that a dependence that begins at batch n is met by batch 2n. Each shape is looked at in its first
batch and after 1, 2, 4, 8, ... batches of that shape as well, as code may branch on a length:
briefly at first, at two samples alone, and closely after 4, or where it runs other operations.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from dpfunc.persample.batches.batch import batch_size, map_tensors
from dpfunc.persample.batches.shapes import have_numbers
from dpfunc.persample.definition.loss import Batched
from dpfunc.persample.whole_batch.places import Place, Seen, is_same_way
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

    ``like``: what is known of the same structure in other lengths. ``keys``: see `settle`.
    """

    learned: Learned | None
    due: Due
    like: Learned | None = None
    keys: tuple[Any, ...] = ()


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
        return Known(None, _owed(verified, keys, Due.CLOSELY), None, keys)
    due = _due(of_structure.uses, 0 if of_shape is None else of_shape.uses)
    return Known(of_shape, _owed(verified, keys, due), of_structure, keys)


def _owed(verified: dict[Any, Any], keys: tuple[Any, ...], due: Due) -> Due:
    """What is ``due``, or more where looks have not gone well: at this shape, or this structure."""
    owed: dict[Any, Due] = verified.setdefault(_OWED, {})
    due = max(due, *(owed.get(key, Due.NOTHING) for key in keys))
    if due != Due.NOTHING:
        owed.update(dict.fromkeys(keys, due))
    return due


def due_on_way(verified: dict[Any, Any], known: Known, learned: Learned) -> Due:
    """Which look is due now that a batch is ``learned``: a close one if its way is a new one."""
    like = None if known.learned is not None else known.like
    if like is None or is_same_way(learned.seen, like.seen):
        return known.due
    return _owed(verified, known.keys, Due.CLOSELY)


def settle(verified: dict[Any, Any], keys: tuple[Any, ...]) -> None:
    """A look at the shape and the structure of these ``keys`` went well, so that none is due.

    Not so at other shapes of the structure: there it may have gone wrong.
    """
    for key in keys:
        verified.get(_OWED, {}).pop(key, None)


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
