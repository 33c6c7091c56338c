"""The pages of the documentation as programs: their Python blocks, and the figures they make."""

import re
from pathlib import Path

import matplotlib

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = [p for p in PAGES if p.parent.name == "tutorials" and p.name != "index.md"]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
IMAGE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")

matplotlib.use("Agg")


def run(page: Path) -> None:
    """Run the blocks of ``page`` in the current folder, one after the other with shared names."""
    text = page.read_text()
    names = {"__name__": "__main__"}
    for match in FENCE.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], str(page), "exec"), names)


def figures(page: Path) -> list[str]:
    """The names of the pictures that ``page`` shows."""
    return IMAGE.findall(page.read_text())


def entries(page: Path) -> list[str]:
    """The names that an API page takes from the docstrings."""
    return ENTRY.findall(page.read_text())
