"""Every fenced Python block in the README and the docs runs; those of a page share their names."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = {
    "from transformers import": "transformers",
    "Trainer, TrainingArguments": "accelerate",
    "import lightning": "lightning",
}

matplotlib.use("Agg")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names = {"__name__": "__main__"}
    for words, package in NEEDED.items():
        if words in text:
            pytest.importorskip(package, reason=f"needs {package}")
    for match in FENCE.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], str(page), "exec"), names)


def test_the_readme_has_code():
    assert len(FENCE.findall(PAGES[0].read_text())) >= 3
