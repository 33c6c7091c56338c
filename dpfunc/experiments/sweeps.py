"""`sweep`: all settings of a grid, some seeds each, and no run twice."""

import itertools
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import dpfunc
from dpfunc.accounting import Event
from dpfunc.accounting import epsilon as epsilon_of
from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.experiments.rows import Config, Row, append, hash_of, read, settings
from dpfunc.random.keys import Key, fold_in, require_key

Run = Callable[[Config, Key], Mapping[str, Any]]
Grid = Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]


def sweep(
    run: Run, grid: Grid, *, seeds: int, path: str | Path, key: Key, delta: float | None = None
) -> list[Row]:
    """Call ``run(config, key)`` for all settings of a grid and all seeds; go on where it stopped.

    ``grid``: lists by name, of which all combinations are run, or the settings one by one. ``run``
    returns numbers by name and, under ``"event"``, the accountant's event of what it released, of
    which the epsilon at ``delta`` is worked out. Call what was computed from private data without
    noise ``"not_private/..."``.

    Each finished run is one line of JSON in ``path``, flushed to the disk. Runs that are there
    are not made again: that is how a sweep is resumed, by the same call. A last line that was cut
    short is dropped. One process a file.

    The key of a run is ``fold_in(key, "sweep", hash of the settings, seed)``: no two runs share
    noise, a run that was killed has the same noise when it is made again, and the file holds no
    key. Take a new ``key`` when you change ``run`` or the data, and a new path with it: a file with
    rows of another key is refused, as they are not what this sweep would give.

    Whoever looks at all rows has paid for all of them: `spent`. The best of a grid costs no less
    than the grid; `select` is the way to pay for less.

    >>> import dpfunc as dp, tempfile
    >>> from dpfunc import accounting
    >>> def run(config, key):
    ...     noise = float(dp.normal(key, ())) * config["sigma"]
    ...     return {"answer": 10 + noise, "event": accounting.Gaussian(config["sigma"])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = [sweep(run, {"sigma": [1.0, 2.0]}, seeds=2, path=f"{folder}/rows.jsonl",
    ...                    key=dp.key(0), delta=1e-5) for _ in range(2)]
    >>> again[0] == again[1], len(again[0]), round(again[0][0].epsilon, 2)
    (True, 4, 4.38)
    """
    require_key("sweep", key)
    seeds = plain(seeds)
    require(is_count(seeds) and seeds >= 1, "sweep", "seeds >= 1", seeds, "pass how many")
    wanted = [(config, seed) for config in configs("sweep", grid) for seed in range(seeds)]
    return made("sweep", run, wanted, Path(path), key, delta)


def made(
    subject: str,
    run: Run,
    wanted: Sequence[tuple[Config, int]],
    path: Path,
    key: Key,
    delta: float | None,
) -> list[Row]:
    """The rows of the runs ``wanted``, of which those that the file lacks are made."""
    require(
        delta is None or (is_real(delta) and 0 <= delta < 1),
        subject,
        "a delta in [0, 1), or None",
        delta,
        "use about 1 / (10 * size)",
    )
    fingerprint = fold_in(key, "fingerprint").secret_bytes.hex()[:32]  # tells nothing of the key
    rows = {(row.hash, row.seed): row for row in read(path)}
    require(
        all(row.fingerprint == fingerprint for row in rows.values()),
        subject,
        "a file of this key's own",
        f"runs that were made with another key, or do not tell with which, in {path}",
        "pass the key that they were made with to go on, or a new path for runs with a new key",
    )
    found = []
    for config, seed in wanted:
        name = (hash_of(config), seed)
        if name not in rows:
            row = _made(subject, run, config, seed, fold_in(key, "sweep", *name), delta)
            rows[name] = replace(row, fingerprint=fingerprint)
            append(path, rows[name])
        found.append(rows[name])
    return found


@lru_cache(maxsize=256)
def _epsilon(event: Event, delta: float) -> float:
    """Worked out once for all seeds and settings that release the same."""
    return epsilon_of(event, delta=delta)


def configs(subject: str, grid: Grid) -> list[Config]:
    """The settings of a grid, each once."""
    if isinstance(grid, Mapping):
        require(
            all(
                isinstance(values, Sequence) and not isinstance(values, str)
                for values in grid.values()
            ),
            subject,
            "a list of values for each name of the grid",
            dict(grid),
            "write a single value as [value]",
        )
        every = [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]
    else:
        every = [dict(config) for config in grid]
    found = {hash_of(config): config for config in (settings(subject, c) for c in every)}
    require(len(found) > 0, subject, "a grid that is not empty", grid, "pass some settings")
    return list(found.values())


def _made(subject: str, run: Run, config: Config, seed: int, key: Key, delta: float | None) -> Row:
    started = time.monotonic()
    given = run(dict(config), key)
    seconds = time.monotonic() - started
    require(
        isinstance(given, Mapping),
        subject,
        "a dict of numbers from your run",
        type(given).__name__,
        "return what was measured, by name",
    )
    event = given.get("event")
    require(
        event is None or isinstance(event, Event),
        subject,
        'an event of dpfunc.accounting under "event"',
        event,
        "return what private.event(...) says",
    )
    results = {name: plain(value) for name, value in given.items() if name != "event"}
    odd = {name: value for name, value in results.items() if not isinstance(value, int | float)}
    require(not odd, subject, "numbers from your run", odd, "return numbers, by name")
    return Row(
        config,
        seed,
        {name: float(value) for name, value in results.items()},
        event,
        None if event is None or delta is None else _epsilon(event, delta),
        None if event is None else delta,
        seconds,
        {
            "dpfunc": dpfunc.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )
