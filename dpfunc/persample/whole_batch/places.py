"""Where the samples are in a tensor of the whole batch: learned from sizes, then held to.

One look at a shape cannot tell: an axis of 32 may be the batch or the positions. So the loss runs
once on a batch of a size that divides no other size in it; there every axis that this size divides
carries samples. What was learned, in the order of the questions, then serves batches of any size,
as long as everything but the batch axis has the shape that it had.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

_THE_END = "the end of the loss"


class Place(NamedTuple):
    """Samples lie on ``axis``, each with ``times`` neighbouring entries of it."""

    axis: int
    times: int


class Compared(NamedTuple):
    """Samples lie on several axes: each is compared with each."""

    places: tuple[Place, ...]


Found = Place | Compared | None


class Seen(NamedTuple):
    """A tensor that was asked about, with the shape that it had for one sample."""

    operation: str
    shape: tuple[int, ...]
    place: Found

    def shape_of(self, size: int) -> tuple[int, ...]:
        """The shape for so many samples."""
        shape = list(self.shape)
        for place in places_in(self.place):
            shape[place.axis] = size * place.times
        return tuple(shape)


class OffPlanError(RuntimeError):
    """The loss ran other operations, or other shapes, than when its places were learned."""


def saving_hook() -> Any:
    """What autograd hands to be saved goes through this function; None where it is kept as is."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return None if hooks is None else hooks[0]


def to_rows(values: Tensor, place: Place | None, size: int, *, split: bool = False) -> Tensor:
    """``values`` as ``[B, ...]``. What a sample has several of stays in its axis.

    ``split``: keep that axis even where a sample has one entry.
    """
    if place is None:
        return values.expand(size, *values.shape)
    if split or place.times > 1:
        values = values.unflatten(place.axis, (size, place.times))
    return values.movedim(place.axis, 0)


def from_rows(rows: Tensor, place: Place, *, split: bool = False) -> Tensor:
    """The inverse of `to_rows`."""
    values = rows.movedim(0, place.axis)
    return values.flatten(place.axis, place.axis + 1) if split or place.times > 1 else values


@dataclass
class Places:
    """The places in one run of a loss on ``size`` samples.

    ``plan``: what was learned before, in order. Where it is None, this run learns: ``size`` then
    divides the size of an axis only where the axis carries samples. ``learn_again``: makes a new
    plan, once, where the loss leaves this one: for a run that cannot be repeated.
    """

    size: int
    plan: tuple[Seen, ...] | None = None
    learn_again: Callable[[], tuple[Seen, ...]] | None = None

    def __post_init__(self) -> None:
        self.seen: list[Seen] = []
        self.parts: set[int] = set()
        self._hook: Any = None

    @property
    def learning(self) -> bool:
        return self.plan is None

    def of(self, operation: str, values: Tensor) -> Place | None:
        """The place of ``values``, an argument or a result of ``operation``."""
        return one_axis(operation, self.find(operation, values))

    def find(self, operation: str, values: Tensor) -> Found:
        """The same, where samples may also be compared."""
        shape = tuple(values.shape)
        if self.learning:
            place = self._by_division(shape)
            self._note(Seen(operation, _for_one(shape, place), place))
            return place
        self._advance(operation)
        self.check(operation, values)
        return self.seen[-1].place

    def next(self, operation: str) -> Place | None:
        """The place of the next tensor, before it is there. Pass it to `check` once it is."""
        return one_axis(operation, self._advance(operation))

    def _advance(self, operation: str) -> Found:
        here = len(self.seen)
        self._hold_to(
            lambda: self._planned(here) == operation,
            f"{operation} came in the place of {self._planned(here)}",
        )
        self._note(self._plan()[here])
        return self.seen[-1].place

    def check(self, operation: str, values: Tensor) -> None:
        """OffPlanError unless ``values`` has the shape that was expected last."""
        if not self._fits(values):
            last = self.seen.pop()
            self._leave_plan(f"{operation} has the shape {tuple(values.shape)}, not {last.shape}")
            self._advance(operation)
            if not self._fits(values):
                raise OffPlanError(f"{operation} has the shape {tuple(values.shape)}")

    def finish(self) -> tuple[Seen, ...]:
        """All that was seen. OffPlanError where the loss ended earlier than it did before."""
        if self.plan is not None:
            here = len(self.seen)
            self._hold_to(
                lambda: self._planned(here) == _THE_END,
                f"the loss ended before {self._planned(here)}",
            )
        return tuple(self.seen)

    def _note(self, seen: Seen) -> None:
        """``parts``: where in ``seen`` a part begins, or ends, that may run again in backward."""
        hook = saving_hook()
        if hook is not self._hook:
            self.parts.add(len(self.seen))
            self._hook = hook
        self.seen.append(seen)

    def _plan(self) -> tuple[Seen, ...]:
        return self.plan or ()

    def _planned(self, at: int) -> str:
        return self._plan()[at].operation if at < len(self._plan()) else _THE_END

    def _fits(self, values: Tensor) -> bool:
        return self.seen[-1].shape_of(self.size) == tuple(values.shape)

    def _hold_to(self, agrees: Callable[[], bool], why: str) -> None:
        """OffPlanError unless the loss agrees with the plan, or else with a new one."""
        if not agrees():
            self._leave_plan(why)
            if not agrees():
                raise OffPlanError(why)

    def _leave_plan(self, why: str) -> None:
        """Go on with a new plan, which has to agree with what was seen so far."""
        if self.learn_again is None:
            raise OffPlanError(why)
        plan, self.learn_again = self.learn_again(), None
        if list(plan[: len(self.seen)]) != self.seen:
            raise OffPlanError(why)
        self.plan = plan

    def _by_division(self, shape: tuple[int, ...]) -> Found:
        found = [
            Place(axis, n // self.size)
            for axis, n in enumerate(shape)
            if n > 0 and n % self.size == 0
        ]
        if len(found) > 1:
            return Compared(tuple(found))
        return found[0] if found else None


def one_axis(operation: str, found: Found) -> Place | None:
    """RuntimeError where samples are compared."""
    if isinstance(found, Compared):
        raise RuntimeError(
            f"batched: expected one axis of samples in {operation} but {len(found.places)} grow "
            "with the batch; a loss may not compare samples."
        )
    return found


def places_in(found: Found) -> tuple[Place, ...]:
    """None, one, or several that are compared."""
    if found is None:
        return ()
    return found.places if isinstance(found, Compared) else (found,)


def is_same_way(seen: tuple[Seen, ...], other: tuple[Seen, ...]) -> bool:
    """Whether both are of one loss in perhaps other lengths.

    The same operations on tensors of as many axes, with samples on the same ones.
    """
    return [*map(_kind, seen)] == [*map(_kind, other)]


def _kind(seen: Seen) -> tuple[str, int, tuple[int, ...]]:
    axes = tuple(place.axis for place in places_in(seen.place))
    return seen.operation, len(seen.shape), axes


def _for_one(shape: tuple[int, ...], found: Found) -> tuple[int, ...]:
    times = {place.axis: place.times for place in places_in(found)}
    return tuple(times.get(axis, n) for axis, n in enumerate(shape))
