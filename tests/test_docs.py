"""Every fenced Python block in the README and the docs runs; what pages show and list exists."""

import ast
import re
from types import ModuleType

import pytest

import dpfunc as dp
from dpfunc import accounting, audit, correlated, experiments
from tests.pages import FENCE, PAGES, ROOT, TUTORIALS, entries, figures, run

# By what a block of code says, the package without which it cannot run.
NEEDED = {
    "from transformers import": "transformers",
    "Trainer, TrainingArguments": "accelerate",
    "from peft import": "peft",
    "import lightning": "lightning",
    "from opacus": "opacus",
    "from flwr": "flwr",
}

PNG = b"\x89PNG\r\n\x1a\n"


def skip_without_packages(block):
    for words, package in NEEDED.items():
        if words in block:
            pytest.importorskip(package, reason=f"needs {package}")


SLOW = {"exposed.md"}  # a hundred models


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.nightly] if page.name in SLOW else [])
        for page in PAGES
    ],
)
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # Opacus's, on audit.md
def test_the_code_on_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page, before_block=skip_without_packages)
    if page in TUTORIALS:  # its own code draws what it shows
        for name in figures(page):
            assert (tmp_path / name).read_bytes().startswith(PNG)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_a_tutorial_shows_a_figure_that_is_there_and_small(page):
    (name,) = figures(page)
    assert name == f"{page.stem}.png"
    assert len((page.parent / name).read_bytes()) < 80_000


def test_the_readme_has_code():
    assert len(FENCE.findall(PAGES[0].read_text())) >= 3


def test_every_tutorial_is_listed():
    index = (ROOT / "docs/tutorials/index.md").read_text()
    assert all(f"({page.name})" in index for page in TUTORIALS)


def callable_of(name):
    return not name.startswith("_") and callable(getattr(correlated, name))


def public_of(module):
    return [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]


def test_the_api_pages_have_every_public_name_once():
    listed = entries(ROOT / "docs/api.md")
    assert len(set(listed)) == len(listed)
    modules = {name for name in dp.__all__ if isinstance(getattr(dp, name), ModuleType)}
    names = {f"dpfunc.{name}" for name in set(dp.__all__) - modules}
    names |= {f"dpfunc.correlated.{name}" for name in dir(correlated) if callable_of(name)}
    assert names <= set(listed)
    in_audit = {f"dpfunc.audit.{name}" for name in audit.__all__}
    in_audit |= {f"dpfunc.experiments.{name}" for name in public_of(experiments)}
    assert in_audit == set(entries(ROOT / "docs/api_audit.md"))
    public = {name for name in dir(accounting) if not name.startswith("_")}
    values = {name for name in public if callable(getattr(accounting, name))}
    assert values == {name.rpartition(".")[2] for name in entries(ROOT / "docs/api_accounting.md")}


NAMED = re.compile(r"`([\w/.-]+\.py)(?:::?[\w.]+)?`")
FOLDERS = ("dpfunc", "tests", "benchmarks", "docs", "examples")
DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def texts():
    """All that names files to a reader: pages, and docstrings of modules, classes, functions."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        yield page, page.read_text()
    for source in sorted((ROOT / "dpfunc").rglob("*.py")):
        nodes = [n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, DOCSTRINGS)]
        yield source, "\n".join(filter(None, map(ast.get_docstring, nodes)))


def test_every_file_that_is_named_is_there():
    there = ["/" + str(f.relative_to(ROOT)) for top in FOLDERS for f in (ROOT / top).rglob("*.py")]
    named = [(place, name) for place, text in texts() for name in NAMED.findall(text)]
    assert len(named) > 30
    lost = [
        f"{place.relative_to(ROOT)}: {name}"
        for place, name in named
        if not any(file.endswith(f"/{name}") for file in there)
    ]
    assert not lost
