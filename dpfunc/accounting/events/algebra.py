"""The algebra of events: ``event * steps``, ``first + second``, and a repr that reads like it.

An event describes what was released, as frozen, comparable, hashable data, and says nothing about
epsilon; the questions of this package are asked about it. A running total is an event too:
``spent = spent + step`` counts runs of equal steps, so that a million steps are one line.
"""

import math
from dataclasses import dataclass, fields
from itertools import pairwise

from dpfunc.checks import is_count, plain, require

_MOST_TIMES = 2**53


class Event:
    """What every event can do: be repeated (``*``), composed (``+``), printed, compared, hashed."""

    def __add__(self, other: "Event") -> "Event":
        """Both on the same data, in either order; equal neighbours are counted, not listed."""
        return plus(self, other) if isinstance(other, Event) else NotImplemented

    def __mul__(self, times: int) -> "Repeat":
        """``times`` over with fresh randomness; ``event * 2 * 3`` is ``event * 6``."""
        times = plain(times)
        if not isinstance(times, int) or isinstance(times, bool):
            return NotImplemented
        event, count = as_run(self)
        return Repeat(event, count * times)

    __rmul__ = __mul__

    def write_numbers_plainly(self) -> None:
        """Put Python's own numbers for those of NumPy in all fields, before they are checked."""
        for part in fields(self):  # type: ignore[arg-type]  # all are dataclasses
            value = getattr(self, part.name)
            number = tuple(map(plain, value)) if isinstance(value, tuple) else plain(value)
            object.__setattr__(self, part.name, number)

    def __repr__(self) -> str:
        """An expression that gives an equal event back."""
        return _expression(self)


@dataclass(frozen=True, repr=False)
class Repeat(Event):
    """``event``, ``times`` over with fresh randomness; each may depend on earlier releases.

    >>> from dpfunc.accounting import Gaussian
    >>> Repeat(Gaussian(2.0), 3)
    Gaussian(2.0) * 3
    """

    event: Event
    times: int

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require_event("Repeat", self.event)
        require(
            is_count(self.times) and self.times <= _MOST_TIMES,
            "Repeat",
            "an int times >= 0 and at most 2**53",
            self.times,
            "pass the number of steps",
        )


@dataclass(frozen=True, repr=False)
class Compose(Event):
    """All of ``events`` on the same data, in any order: several phases, or several runs.

    ``Compose(())`` releases nothing; ``sum(events, Compose(()))`` adds up a list.

    >>> from dpfunc.accounting import Gaussian
    >>> sum([Gaussian(2.0), Gaussian(2.0), Gaussian(5.0)], Compose(()))
    Gaussian(2.0) * 2 + Gaussian(5.0)
    """

    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            isinstance(self.events, tuple),
            "Compose",
            "a tuple of events",
            type(self.events).__name__,
            "write Compose((first, second)) or first + second",
            error=TypeError,
        )
        for event in self.events:
            require_event("Compose", event)


def require_event(subject: str, event: object) -> None:
    """Refuse what is not an event."""
    require(
        isinstance(event, Event),
        subject,
        "an event",
        type(event).__name__,
        "build one with dpfunc.accounting.dp_sgd(...)",
        error=TypeError,
    )


def as_run(event: Event) -> tuple[Event, int]:
    """The event under all its repeats, and how often it runs in total."""
    if not isinstance(event, Repeat):
        return event, 1
    inner, times = as_run(event.event)
    return inner, times * event.times


def plus(left: Event, right: Event) -> Event:
    """The composition as one flat list of runs, in which no two neighbours are alike."""
    parts = _parts(left)
    for part in _parts(right):
        if parts and as_run(parts[-1])[0] == as_run(part)[0]:
            event, times = as_run(parts[-1])
            parts[-1] = Repeat(event, times + as_run(part)[1])
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else Compose(tuple(parts))


def _parts(event: Event) -> list[Event]:
    """The parts of a composition, and of compositions in it."""
    if not isinstance(event, Compose):
        return [event]
    return [part for inner in event.events for part in _parts(inner)]


def _expression(event: Event) -> str:
    match event:
        case Repeat(inner, times) if not isinstance(inner, Repeat):
            return f"{_factor(inner)} * {times}"
        case Compose(parts) if _is_a_sum(parts):
            return " + ".join(map(repr, parts))
        case _:
            return _call(event)


def _is_a_sum(parts: tuple[Event, ...]) -> bool:
    """Whether adding the parts up gives just this composition back."""
    runs = [as_run(part)[0] for part in parts]
    apart = all(left != right for left, right in pairwise(runs))
    return len(parts) > 1 and apart and not any(isinstance(part, Compose) for part in parts)


def _factor(event: Event) -> str:
    is_sum = isinstance(event, Compose) and _is_a_sum(event.events)
    return f"({event!r})" if is_sum else repr(event)


def _call(event: Event) -> str:
    """The constructor call; a name for each argument once there are three."""
    names = [field.name for field in fields(event)]  # type: ignore[arg-type]  # all are dataclasses
    values = [_value(getattr(event, name)) for name in names]
    if len(names) > 2:
        values = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
    return f"{type(event).__name__}({', '.join(values)})"


def _value(value: object) -> str:
    """``repr``, but with an infinity in words that Python reads back."""
    return "float('inf')" if value == math.inf else repr(value)
