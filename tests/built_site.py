"""What only the built site can tell: ``python -m tests.built_site FOLDER`` after ``mkdocs build``.

- No page fetches anything from elsewhere: no font, script, style or picture.
- Every name of the API pages has its entry, and every guarantee of a docstring its box.
- No doctest or directive is left as plain text.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

from tests.pages import ROOT, entries

FETCHES = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
API_PAGES = ["api", "api_accounting"]


class Page(HTMLParser):
    """What a page fetches, its anchors, and its text outside of code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self._code = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = dict(attrs)
        self._code += tag in ("code", "script")
        self.anchors.add(at.get("id") or "")
        self.fetched.append(at.get(FETCHES.get(tag, "")) or "")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "script")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._code else data


def check(site: Path) -> None:
    """AssertionError with the page and what is wrong with it."""
    paths = sorted(site.rglob("*.html"))
    assert len(paths) > len(API_PAGES), f"{site}: expected the built site"
    for path in paths:
        page = Page(path)
        remote = [url for url in page.fetched if re.match(r"(?:\w+:)?//", url)]
        assert not remote, f"{path}: fetches {remote}"
        assert ">>>" not in page.text, f"{path}: a doctest outside of code"
        assert ":::" not in page.text, f"{path}: a directive as text"
    for name in API_PAGES:
        html = site / name / "index.html"
        page = Page(html)
        missing = [
            entry for entry in entries(ROOT / f"docs/{name}.md") if entry not in page.anchors
        ]
        assert not missing, f"{html}: no entry for {missing}"
        assert not re.search(r"^Guarantee:", page.text, re.MULTILINE), (
            f"{html}: a guarantee unboxed"
        )
    print(f"{len(paths)} pages: every entry is there, and nothing is fetched from elsewhere")


if __name__ == "__main__":
    check(Path(sys.argv[1]))
