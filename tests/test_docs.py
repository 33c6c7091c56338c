"""Every fenced Python block in the README and the docs runs; those of a page share their names."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

matplotlib.use("Agg")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names = {"__name__": "__main__"}
    for match in FENCE.finditer(text):
        for package in ("transformers", "peft"):
            if f"from {package} import" in match[1]:
                pytest.importorskip(package, reason=f"needs {package}")
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], str(page), "exec"), names)


def test_the_readme_has_code():
    assert len(FENCE.findall(PAGES[0].read_text())) >= 3
