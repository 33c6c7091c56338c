"""The machinery for mutants from outside: what it reads, which tests it runs, what it says."""

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests import outside
from tests.mutation import ROOT, Mutant

MISTAKE = {
    "mistake": "mask ignored",
    "file": "clipping/weights.py",
    "right": "torch.where(mask, value, 0.0)",
    "wrong": "torch.where(mask | True, value, 0.0)",
}


@pytest.mark.parametrize("kind", ["json", "dicts", "tuples", "mutants"])
def test_a_file_in_every_form(kind, tmp_path):
    path = tmp_path / ("m.json" if kind == "json" else "m.py")
    text = {
        "json": json.dumps([MISTAKE]),
        "dicts": f"MUTANTS = [{MISTAKE!r}]",
        "tuples": f"MUTANTS = [{tuple(MISTAKE.values())!r}]",
        "mutants": f"import tests.mutation as m\nMUTANTS = [m.Mutant(**{MISTAKE!r}, tests='')]",
    }
    path.write_text(text[kind])
    (mutant,) = outside.load(path)
    assert mutant._replace(tests="") == Mutant(**MISTAKE, tests="")


@pytest.mark.parametrize(
    "change", [{"right": "nowhere"}, {"right": "value"}, {"file": "none.py"}, {"wrong": "right"}]
)
def test_a_mistake_that_cannot_be_planted_is_refused(change, tmp_path):
    if change == {"wrong": "right"}:
        change = {"wrong": MISTAKE["right"]}
    path = tmp_path / "m.json"
    path.write_text(json.dumps([MISTAKE | change]))
    with pytest.raises(ValueError, match="mask ignored: expected"):
        outside.load(path)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("random/keys.py", "tests/noise/test_lattice.py"),  # imports it
        ("clipping/weights.py", "tests/clipping/test_rules.py"),  # mirrors its package
        ("step/graph.py", "tests/step/test_graph.py"),
    ],
)
def test_the_tests_of_a_module(file, expected):
    found = outside.tests_of(file)
    assert found[0] == f"dpfunc/{file}"
    assert expected in found
    assert not [path for path in found if path.startswith("tests/laws/")]
    assert all((ROOT / path).exists() for path in found)


def test_laws_of_the_accountant_are_for_mistakes_of_the_accountant():
    assert any("l10" in path for path in outside.laws_of("accounting/events/algebra.py"))
    rest = outside.laws_of("step/graph.py")
    assert len(rest) > 10
    assert "gru" in (ROOT / outside.laws_of("persample/recurrence/gru.py")[0]).read_text()
    assert not any("l10" in path for path in rest)


def test_first_its_own_tests_then_the_laws_and_a_score_by_package(monkeypatch, tmp_path, capsys):
    ran: list[list[str]] = []

    def fails(copy: Path, tests: list[str], *, seconds: float) -> str | None:
        ran.append(tests)
        law = any(path.startswith("tests/laws/") for path in tests)
        return "tests/laws/test_l1.py::test" if law and len(ran) == 2 else None

    monkeypatch.setattr(outside, "planted", lambda mutant: nullcontext(ROOT))
    monkeypatch.setattr(outside, "first_failure", fails)
    path = tmp_path / "m.json"
    path.write_text(json.dumps([MISTAKE, MISTAKE | {"mistake": "another"}]))
    assert outside.main(path) == 1
    own, laws = outside.tests_of(MISTAKE["file"]), outside.laws_of(MISTAKE["file"])
    assert ran == [own, laws, own, laws]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("caught    clipping/weights.py: mask ignored")
    assert lines[2].startswith("SURVIVED  clipping/weights.py: another")
    assert lines[-2:] == ["   1 of    2  clipping", "   1 of    2  caught in all"]


def test_a_score():
    mutants = [Mutant("a", "x/a.py", "", "", ""), Mutant("b", "x/y/b.py", "", "", "")]
    said = outside.score(mutants, Counter({"x": 1}))
    assert said.splitlines() == [
        "   1 of    1  x",
        "   0 of    1  x/y",
        "   1 of    2  caught in all",
    ]
