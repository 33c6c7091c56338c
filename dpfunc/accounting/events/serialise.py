"""Events as JSON text and back: a checkpoint of a ledger that any language can read.

The text names its format and version. Reading is strict: whatever is not exactly an event of a
known kind is an error, because a ledger misread is a wrong epsilon.
"""

import json
import math
from dataclasses import fields
from typing import Any, get_args

from dpfunc.accounting.events.algebra import Compose, Event, Repeat, require_event
from dpfunc.accounting.events.mechanisms import Mechanism
from dpfunc.accounting.events.schemes import OneRecord, Scheme
from dpfunc.accounting.events.selection import PrivateSelection
from dpfunc.checks import require

_FORMAT = "dpfunc.accounting.event"
_VERSION = 1
_DEEPEST = 100  # events in events; Python recurses a thousand calls deep, or as far as it was told
_EVENTS = (*get_args(Mechanism), *get_args(Scheme), PrivateSelection, OneRecord, Repeat, Compose)
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in _EVENTS}
_REMEDY = "read text that to_json wrote, with a version of dpfunc that knows every kind in it"


def to_json(event: Event) -> str:
    """The event as one line of JSON text; floats keep every bit, an infinity is ``"inf"``.

    TypeError for what is not an event, ValueError for one that holds events more than 100 deep.

    >>> from dpfunc.accounting import Gaussian
    >>> print(to_json(Gaussian(2.0)))  # doctest: +NORMALIZE_WHITESPACE
    {"format": "dpfunc.accounting.event", "version": 1,
     "event": {"kind": "Gaussian", "noise_multiplier": 2.0}}
    """
    require_event("to_json", event)
    return json.dumps({"format": _FORMAT, "version": _VERSION, "event": _encode(event, 1)})


def from_json(text: str) -> Event:
    """The event that `to_json` wrote, equal to the one that was written.

    ValueError, with the reason, for anything else: other text, another version, an unknown kind, a
    missing, repeated or unknown field, a number that no event of that kind has.

    >>> from dpfunc.accounting import Gaussian
    >>> from_json(to_json(Gaussian(2.0) * 3))
    Gaussian(2.0) * 3
    """
    try:
        return _read(text)
    except RecursionError as error:
        raise _too_deep("from_json") from error


def _read(text: str) -> Event:
    document = json.loads(
        text,
        object_pairs_hook=_unrepeated,
        parse_float=_finite,
        parse_constant=_refuse_constant,
    )
    _require_fields("the document", document, {"format", "version", "event"})
    for name, expected in (("format", _FORMAT), ("version", _VERSION)):
        got = document[name]
        same = type(got) is type(expected) and got == expected
        require(same, "from_json", f"{name} {expected!r}", got, _REMEDY)
    return _decode(document["event"], 1)


def _too_deep(called: str) -> ValueError:
    return ValueError(
        f"{called}: expected events at most {_DEEPEST} deep in each other but got some nested too "
        "deep; add up compositions side by side."
    )


def _encode(value: Any, depth: int) -> Any:
    if isinstance(value, Event):
        if depth > _DEEPEST:
            raise _too_deep("to_json")
        names = [field.name for field in fields(value)]  # type: ignore[arg-type]  # all dataclasses
        content = {name: _encode(getattr(value, name), depth + 1) for name in names}
        return {"kind": type(value).__name__} | content
    if isinstance(value, tuple):
        return [_encode(part, depth) for part in value]
    return "inf" if value == math.inf else value


def _decode(value: Any, depth: int) -> Event:
    if depth > _DEEPEST:
        raise _too_deep("from_json")
    name: Any = value.get("kind") if isinstance(value, dict) else value
    known = isinstance(value, dict) and isinstance(name, str) and name in _KINDS
    require(known, "from_json", "an event of a known kind", name, _REMEDY)
    kind, content = _KINDS[name], {key: part for key, part in value.items() if key != "kind"}
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # all are dataclasses
    _require_fields(name, content, names)
    try:
        return kind(**{key: _decode_field(part, depth) for key, part in content.items()})
    except TypeError as error:
        raise ValueError(f"from_json: {error}") from error


def _decode_field(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return _decode(value, depth + 1)
    if isinstance(value, list):
        return tuple(_decode_field(part, depth) for part in value)
    return math.inf if value == "inf" else value


def _require_fields(subject: str, content: object, names: set[str]) -> None:
    got = sorted(content) if isinstance(content, dict) else type(content).__name__
    require(got == sorted(names), "from_json", f"{subject} with {sorted(names)}", got, _REMEDY)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    require(len(set(names)) == len(names), "from_json", "every field once", names, _REMEDY)
    return dict(pairs)


def _finite(text: str) -> float:
    value = float(text)
    require(math.isfinite(value), "from_json", "a number that a float can hold", text, _REMEDY)
    return value


def _refuse_constant(text: str) -> float:
    require(False, "from_json", 'numbers, and "inf" for an infinity', text, _REMEDY)
    return math.nan
