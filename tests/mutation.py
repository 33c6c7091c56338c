"""Plant one mistake at a time in a copy of the project, and see that the tests named for it fail.

In goes a list of `Mutant`, and where the tests named in it are; out comes a line for each, and
whether any survived. ``file`` names all tests of a file, ``file::test`` one of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """``right``, once in ``dpfunc/file``, becomes ``wrong``; each of ``tests`` has to notice."""

    mistake: str
    file: str
    right: str
    wrong: str
    tests: str  # names, apart by spaces


def main(mutants: Sequence[Mutant], pattern: str) -> int:
    """Print what notices each mutant; 1 if one survives. A name in ``pattern`` gives the files."""
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda mutant: _first_reds(mutant, pattern), mutants)
        for mutant, reds in zip(mutants, found, strict=True):
            survived += not _report(mutant, reds)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants caught by all named for them")
    return int(survived > 0)


def _first_reds(mutant: Mutant, pattern: str) -> dict[str, str | None]:
    """For each name the first test that fails with the mistake in place, in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dpfunc", "tests"):
            shutil.copytree(ROOT / part, copy / part)  # compiled files too: fewer to make
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / "dpfunc" / mutant.file
        text = source.read_text()
        if text.count(mutant.right) != 1:
            raise SystemExit(f"{mutant.mistake}: expected one {mutant.right!r} in {mutant.file}.")
        source.write_text(text.replace(mutant.right, mutant.wrong))
        return {name: _first_red(copy, mutant, _place(pattern, name)) for name in _names(mutant)}


def _first_red(copy: Path, mutant: Mutant, pattern: str) -> str | None:
    options = ["-n", "0", "-q", "-x", "--tb=no", "-p", "no:cacheprovider"]
    path, *test = pattern.split("::")
    files = sorted(map(str, copy.glob(path)))
    if not files:
        raise SystemExit(f"{mutant.mistake}: expected tests at {path}.")
    named = ["::".join([file, *test]) for file in files]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *named],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in (0, 1):
        raise SystemExit(f"{mutant.mistake}: pytest stopped:\n{run.stdout}{run.stderr}")
    failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
    return failed[0].removeprefix("FAILED ").split(" - ")[0] if failed else None


def _report(mutant: Mutant, reds: dict[str, str | None]) -> bool:
    """Print what went red; whether all that has to notice did."""
    caught = all(reds.values())
    states = ", ".join(f"{name} {'red' if red else 'GREEN'}" for name, red in reds.items())
    print(f"{'caught' if caught else 'SURVIVED':8}  {mutant.mistake:64}  {states}")
    first = next((red for red in reds.values() if red), "nothing failed")
    print(f"          {first}", flush=True)
    return caught


def _place(pattern: str, name: str) -> str:
    """The files of a name, and the test in them if it names one."""
    file, *test = name.split("::")
    return "::".join([pattern.format(file), *test])


def _names(mutant: Mutant) -> list[str]:
    return mutant.tests.split()
