"""The row of a run, and the file of rows: one line of JSON each, written when the run is over."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpfunc.accounting import Event, from_json, to_json
from dpfunc.checks import plain, require

Config = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One finished run: its settings and seed, what it gave, and what it released.

    ``results``: the numbers of ``run``; those named ``not_private/...`` were computed from private
    data without noise. ``event``: what the run released, None if it did not say; ``epsilon`` is
    that of this run alone. No row holds a key: ``fingerprint`` tells which key the sweep had, and
    gives nothing of it away.
    """

    config: Config
    seed: int
    results: dict[str, float]
    event: Event | None
    epsilon: float | None
    delta: float | None
    seconds: float
    versions: dict[str, str]
    fingerprint: str = ""

    @property
    def hash(self) -> str:
        """Of the settings: the same for the same JSON text, whatever the order of its names."""
        return hash_of(self.config)

    def number(self, name: str) -> float:
        """A result by name, or ``epsilon``, ``seconds``; ValueError if there is none."""
        known = {"epsilon": self.epsilon, "seconds": self.seconds, **self.results}
        value = known.get(name)
        require(value is not None, "Row", f"one of {sorted(known)}", name, "name a result")
        return float(value)  # type: ignore[arg-type]  # not None


def hash_of(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the settings' JSON text."""
    text = json.dumps(config, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def settings(subject: str, config: Any) -> Config:
    """The settings as JSON gives them back: strings, numbers, booleans, None, lists, dicts."""
    require(
        isinstance(config, Mapping) and all(isinstance(name, str) for name in config),
        subject,
        "settings: a dict with strings for names",
        config,
        "name each setting",
    )
    try:
        text = json.dumps({name: plain(value) for name, value in config.items()}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{subject}: expected settings that JSON can hold but got {config!r}; "
            "use strings and finite numbers, and look objects up by name in your run."
        ) from error
    loaded: Config = json.loads(text)
    return loaded


def read(path: Path) -> list[Row]:
    """The rows of a file, which need not exist; a last line that was cut short is dropped."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1].splitlines()
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def append(path: Path, row: Row) -> None:
    """Write a row behind the last whole line, and see it safely on the disk."""
    document = {
        "config": row.config,
        "hash": row.hash,
        "seed": row.seed,
        "results": {name: _written(value) for name, value in row.results.items()},
        "event": None if row.event is None else json.loads(to_json(row.event)),
        "epsilon": None if row.epsilon is None else _written(row.epsilon),
        "delta": row.delta,
        "seconds": row.seconds,
        "versions": row.versions,
        "fingerprint": row.fingerprint,
    }
    line = json.dumps(document, allow_nan=False).encode() + b"\n"
    with open(path, "r+b" if path.exists() else "x+b") as file:
        whole = file.read()
        file.seek(whole.rfind(b"\n") + 1)  # over what a killed run left of a line
        file.truncate()
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        of = json.loads(line)
        event = None if of["event"] is None else from_json(json.dumps(of["event"]))
        epsilon = None if of["epsilon"] is None else float(of["epsilon"])
        results = {name: float(value) for name, value in of["results"].items()}
        row = Row(
            of["config"],
            of["seed"],
            results,
            event,
            epsilon,
            of["delta"],
            of["seconds"],
            of["versions"],
            of.get("fingerprint", ""),
        )
        whole = row.hash == of["hash"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"sweep: expected a row of an earlier sweep but got line {number} of {path}; "
            "pass a new path, or take the line out."
        ) from error
    require(
        whole,
        "sweep",
        f"settings as they were written, line {number} of {path}",
        row.config,
        "take the line out: its settings were changed",
    )
    return row


def _written(value: float) -> float | str:
    """JSON has no NaN and no infinity: their names instead."""
    return value if math.isfinite(value) else str(value)
