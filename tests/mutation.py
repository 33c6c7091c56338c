"""Plant one mistake at a time in a copy of the project, and see that the tests named for it fail.

In goes a list of `Mutant`, and where the tests named in it are; out comes a line for each, and
whether any survived. ``l7`` names all files of a law, ``l7_views`` one of them, and what follows a
``::`` one test in it.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.forked_pytest import StoppedError, first_failure

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 1800


class Mutant(NamedTuple):
    """``right``, once in ``dpfunc/file``, becomes ``wrong``; each of ``tests`` has to notice."""

    mistake: str
    file: str
    right: str
    wrong: str
    tests: str  # names, apart by spaces
    nightly: bool = False  # too slow for the gate, which has another one for the same law


def main(
    lists: Sequence[tuple[Sequence[Mutant], str]], arguments: Sequence[str] | None = None
) -> int:
    """Print what notices each mutant; 1 if one survives. A name in a pattern gives the files.

    ``--nightly`` is for those that are too slow for the gate, which names them.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--nightly", action="store_true", help="the slow ones")
    nightly = parser.parse_args(arguments).nightly
    everything = [(mutant, pattern) for mutants, pattern in lists for mutant in mutants]
    planned = [(mutant, pattern) for mutant, pattern in everything if mutant.nightly == nightly]
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda plan: _first_reds(*plan), planned)
        for (mutant, _), (reds, seconds) in zip(planned, found, strict=True):
            survived += not _report(mutant, reds, seconds)
    print(f"{len(planned) - survived} of {len(planned)} mutants caught by all named for them")
    left = [mutant.mistake for mutant, _ in everything if mutant.nightly and not nightly]
    if left:
        print(f"{len(left)} are left for the night (--nightly): {'; '.join(left)}")
    return int(survived > 0)


@contextmanager
def planted(mutant: Mutant) -> Iterator[Path]:
    """A copy of the project with the mistake in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        stale = "*.nb[ci]" if "numba" in mutant.file else ""  # a caller's may hold the right line
        for part in ("dpfunc", "tests"):  # compiled files too: fewer to make
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns(stale))
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / "dpfunc" / mutant.file
        text = source.read_text()
        if text.count(mutant.right) != 1:
            raise SystemExit(f"{mutant.mistake}: expected one {mutant.right!r} in {mutant.file}.")
        source.write_text(text.replace(mutant.right, mutant.wrong))
        yield copy


def _first_reds(mutant: Mutant, pattern: str) -> tuple[dict[str, str | None], float]:
    """For each name the first test that fails with the mistake in place, in a copy; seconds."""
    begun = time.monotonic()
    with planted(mutant) as copy:
        reds = {name: _first_red(copy, mutant, pattern, name) for name in names_of(mutant)}
    return reds, time.monotonic() - begun


def _first_red(copy: Path, mutant: Mutant, pattern: str, name: str) -> str | None:
    named = named_tests(copy, pattern, name)
    if not named:
        raise SystemExit(f"{mutant.mistake}: expected tests named {name} at {pattern}.")
    try:
        red = first_failure(copy, named, seconds=MOST_SECONDS)
    except StoppedError as stopped:
        raise SystemExit(f"{mutant.mistake}: {stopped}") from stopped
    if red is not None and "::" not in red:
        raise SystemExit(f"{mutant.mistake}: {red} cannot be imported")
    return red


def _report(mutant: Mutant, reds: dict[str, str | None], seconds: float) -> bool:
    """Print what went red; whether all that has to notice did."""
    caught = all(reds.values())
    states = ", ".join(f"{name} {'red' if red else 'GREEN'}" for name, red in reds.items())
    print(f"{'caught' if caught else 'SURVIVED':8}  {mutant.mistake:64}  {states}")
    first = next((red for red in reds.values() if red), "nothing failed")
    print(f"{seconds:8.1f}  {first}", flush=True)
    return caught


def named_tests(root: Path, pattern: str, name: str) -> list[str]:
    """The files of a name, or the test in them if it names one, for pytest."""
    file, *test = name.split("::")
    if "_" in file:
        pattern = pattern.replace("{}_*", "{}")
    files = sorted(root.glob(pattern.format(file)))
    if test:  # a pattern may find other files of that name
        definition = f"def {test[0].split('[')[0]}("
        files = [path for path in files if definition in path.read_text()]
    return ["::".join([str(path), *test]) for path in files]


def names_of(mutant: Mutant) -> list[str]:
    return mutant.tests.split()
