"""Mutants from outside: mistakes that whoever wrote the tests has not seen.

In goes a file of mistakes. JSON: a list of objects with the fields ``mistake``, ``file`` (in
``dpfunc``), ``right`` and ``wrong``. Python: a list ``MUTANTS`` of such dicts, of tuples in that
order, or of `Mutant`. Each mistake is planted in a copy of the project; the doctests of its file
and the tests that import its module or mirror its package run on it, and if none of them fails, the
laws. Out comes a line for each, and a score by package.
"""

import ast
import json
import runpy
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.forked_pytest import StoppedError, first_failure
from tests.mutation import MOST_SECONDS, ROOT, Mutant, planted

LAWS = "laws"
_FIELDS = ("mistake", "file", "right", "wrong")


def load(path: Path) -> list[Mutant]:
    """The mutants in a file, see above. ValueError where one is not what it should be."""
    if path.suffix == ".json":
        found = json.loads(path.read_text())
    else:
        found = runpy.run_path(str(path))["MUTANTS"]
    mutants = [_as_mutant(each) for each in found]
    for mutant in mutants:
        source = ROOT / "dpfunc" / mutant.file
        times = source.read_text().count(mutant.right) if source.exists() else 0
        if times != 1 or mutant.right == mutant.wrong:
            raise ValueError(
                f"{mutant.mistake}: expected {mutant.right!r} once in {mutant.file}, and another "
                f"text in its place, but it is there {times} times."
            )
    return mutants


def _as_mutant(each: Any) -> Mutant:
    if isinstance(each, Mutant):
        return each
    fields = [each[name] for name in _FIELDS] if isinstance(each, dict) else each[: len(_FIELDS)]
    return Mutant(*fields, tests="")


def tests_of(file: str) -> list[str]:
    """Of a file in ``dpfunc``: its doctests, and the tests that import it or mirror its package."""
    module = _module(file)
    mirror = ROOT / "tests" / Path(file).parent
    found = {path for path in _tests() if module in _imported(path) or path.parent == mirror}
    return [f"dpfunc/{file}", *sorted(str(path.relative_to(ROOT)) for path in found)]


def laws_of(file: str) -> list[str]:
    """The laws, those that import the mutated module first; L10 for the accountant alone."""
    module = _module(file)
    every = [
        path
        for path in sorted((ROOT / "tests" / LAWS).glob("test_*.py"))
        if "_l10_" not in path.name or file.startswith("accounting/")
    ]
    every.sort(key=lambda path: module not in _imported(path))
    return [str(path.relative_to(ROOT)) for path in every]


def _module(file: str) -> str:
    return ".".join(("dpfunc", *Path(file).with_suffix("").parts))


def _tests() -> list[Path]:
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [path for path in found if path.parent.name != LAWS]


def _imported(path: Path) -> set[str]:
    """The modules that a test names in its imports, packages of names among them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def main(path: Path, *, workers: int = 1) -> int:
    """Print what notices each mutant, and the score; 1 if one survives."""
    mutants = load(path)
    caught: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        for mutant, red in zip(mutants, pool.map(_first_red, mutants), strict=True):
            caught[package(mutant)] += red is not None
            print(f"{'caught' if red else 'SURVIVED':8}  {mutant.file}: {mutant.mistake}")
            print(f"          {red or 'nothing failed'}", flush=True)
    print(score(mutants, caught))
    return int(caught.total() < len(mutants))


def _first_red(mutant: Mutant) -> str | None:
    with planted(mutant) as copy:
        for tests in (tests_of(mutant.file), laws_of(mutant.file)):
            try:
                red = first_failure(copy, tests, seconds=MOST_SECONDS)
            except StoppedError as stopped:  # by the mistake: the tests are those of the project
                return str(stopped)
            if red is not None:
                return red
    return None


def package(mutant: Mutant) -> str:
    return str(Path(mutant.file).parent)


def score(mutants: Sequence[Mutant], caught: Counter[str]) -> str:
    """A line for each package, and one for all."""
    planted_in = Counter(map(package, mutants))
    lines = [f"{caught[name]:4} of {count:4}  {name}" for name, count in sorted(planted_in.items())]
    return "\n".join([*lines, f"{caught.total():4} of {len(mutants):4}  caught in all"])
