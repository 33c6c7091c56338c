import pytest

from dpfunc.modules.checking.report import Problem, Report, table


def problem(path="a", severity="error", what="what"):
    return Problem(path, what, "why", "fix", severity)


def test_a_report_is_a_list_with_the_gravest_first():
    note, warning, first, second = (
        problem("n", "note"),
        problem("w", "warning"),
        problem("e1"),
        problem("e2"),
    )
    report = Report([note, first, warning, second])
    assert report == [first, second, warning, note]
    assert len(report) == 4
    assert Report() == []
    assert not Report()


def test_an_empty_report_says_so():
    assert str(Report()) == "nothing found"


def test_a_report_prints_as_a_table_with_every_word_in_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    head, rule, row = str(Report([problem("", "warning")])).splitlines()
    assert head.split("  ")[0] == "path"
    assert set(rule) == {"-", " "}
    assert row.split() == ["(whole)", "warning", "what", "why", "fix"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_is_no_wider_than_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    report = Report([problem("some.rather.long.path." * 3, what="long words " * 20)])
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= columns
    assert sum(line.count("words") for line in lines) == 20


def test_rows_that_differ_in_their_path_alone_become_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = table(("path", "was"), [("a", "x"), ("b", "y"), ("c", "x")]).splitlines()
    assert [line.split() for line in lines[2:]] == [["a", "x"], ["c"], ["b", "y"]]


def test_lines_of_a_cell_stay_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert table(("path", "said"), [("a", "one\n\ntwo")]).splitlines()[2:] == [
        "a     one",
        "",
        "      two",
    ]
