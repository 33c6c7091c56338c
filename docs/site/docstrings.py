"""What docstrings say in plain text, as Markdown of the site: an extension of griffe.

A paragraph that begins with ``Guarantee:`` becomes a box, ``>>>`` a block of code, and a name in
single backticks a link to its entry, where the API pages have one.
"""

import re
from pathlib import Path
from textwrap import indent
from typing import Any

import griffe

DOCS = Path(__file__).parents[1]
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")
GUARANTEE = "Guarantee: "


class MarkdownDocstrings(griffe.Extension):
    """Rewrites each docstring once, when the source is read."""

    def __init__(self) -> None:
        pages = sorted(DOCS.glob("api*.md"))
        self.entries = {name for page in pages for name in ENTRY.findall(page.read_text())}

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = self._markdown(obj.docstring.value, obj.path)

    def _markdown(self, text: str, path: str) -> str:
        blocks: list[str] = []
        for block in text.split("\n\n"):
            if block.startswith(">>> "):
                blocks.append(f"```pycon\n{block}\n```")
            elif block.startswith(GUARANTEE):
                words = self._linked(block.removeprefix(GUARANTEE), path)
                words = indent(words[0].upper() + words[1:], "    ")
                blocks.append(f'!!! success "Guarantee"\n\n{words}')
            else:
                blocks.append(self._linked(block, path))
        return "\n\n".join(blocks)

    def _linked(self, text: str, path: str) -> str:
        """``text`` with links at the names in single backticks that have an entry."""

        def link(match: re.Match[str]) -> str:
            entry = self._entry(match[1], path)
            return f"[`{match[1]}`][{entry}]" if entry else match[0]

        return NAME.sub(link, text)

    def _entry(self, name: str, path: str) -> str | None:
        """The entry that ``name`` means in the docstring of ``path``: the nearest one."""
        in_accountant = path.startswith("dpfunc.accounting")
        homes = ["dpfunc.accounting.", "dpfunc."] if in_accountant else ["dpfunc."]
        for home in [*homes, ""]:
            if home + name in self.entries:
                return home + name
            owner = (home + name).rpartition(".")[0]
            if owner in self.entries and owner.rpartition(".")[2][:1].isupper():
                return home + name  # a method
        return None
