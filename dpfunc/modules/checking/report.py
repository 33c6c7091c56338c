"""`Problem` and `Report`: what was found about a module, printed as a table."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_SHORT, _GAP = 8, "  "


class Problem(NamedTuple):
    """One thing about a module; ``path`` is where, a dotted name, empty for the whole of it.

    ``what`` is the problem, ``why`` its consequence for privacy, ``fix`` the remedy. ``severity``:

    - "error": the guarantee would break, or dpfunc refuses to train it.
    - "warning": the guarantee holds on a condition that is yours to keep, or training would suffer.
    - "note": harmless with dpfunc, and good to know.
    """

    path: str
    what: str
    why: str
    fix: str
    severity: Severity = "error"


class Report(list[Problem]):
    """A list of problems, the gravest first; empty where nothing was found. Print it."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        super().__init__(sorted(problems, key=lambda at: _ORDER.index(at.severity)))

    def __str__(self) -> str:
        if not self:
            return "nothing found"
        heads = ("path", "severity", "problem", "consequence for privacy", "remedy")
        return table(heads, [(at.path, at.severity, at.what, at.why, at.fix) for at in self])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as wide as the terminal at most, with cells wrapped at words.

    Rows begin with a path; those that differ in it alone become one.
    """
    paths: dict[tuple[str, ...], list[str]] = {}
    for path, *rest in rows:
        paths.setdefault(tuple(rest), []).append(path or "(whole)")
    cells = [tuple(heads), *(("\n".join(where), *rest) for rest, where in paths.items())]
    natural = [max(map(_longest, column)) for column in zip(*cells, strict=True)]
    widths = _fitted(natural, shutil.get_terminal_size().columns - len(_GAP) * (len(heads) - 1))
    lines = [line for row in cells for line in _wrapped(row, widths)]
    rule = _GAP.join("-" * width for width in widths)
    after_heads = len(list(_wrapped(cells[0], widths)))
    return "\n".join([*lines[:after_heads], rule, *lines[after_heads:]])


def _longest(cell: str) -> int:
    return max(map(len, cell.split("\n")))


def _fitted(natural: list[int], room: int) -> list[int]:
    """Column widths that add up to ``room`` or less: wide columns share what narrow ones leave."""
    widths, left, columns = list(natural), room, len(natural)
    for place in sorted(range(columns), key=natural.__getitem__):
        widths[place] = min(natural[place], max(left // columns, _SHORT))
        left, columns = left - widths[place], columns - 1
    return widths


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    columns = [
        [line for part in cell.split("\n") for line in textwrap.wrap(part, width) or [""]]
        for cell, width in zip(row, widths, strict=True)
    ]
    for line in range(max(map(len, columns))):
        parts = [column[line] if line < len(column) else "" for column in columns]
        padded = (part.ljust(width) for part, width in zip(parts, widths, strict=True))
        yield _GAP.join(padded).rstrip()
