"""Both libraries on correlated noise: the questions, our answers and the table. Without JAX."""

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks.jax_matrices import ours, table
from benchmarks.jax_matrices.inputs import with_signs
from benchmarks.jax_matrices.judged import root_error
from benchmarks.jax_matrices.questions import OPTIMA, PRIVACY, SIMULATED, VALUES
from dpfunc.strategies.records import matrix

ALL = (*VALUES, *OPTIMA, *PRIVACY, *SIMULATED)


def answered_by_jax():
    """The kinds that the process with JAX knows: read, as it cannot be imported here."""
    tree = ast.parse((Path(table.__file__).parent / "theirs.py").read_text())
    (known,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ANSWERS"
    )
    return {key.value for key in known.keys}


def test_both_know_every_kind_and_no_other():
    assert {question.kind for question in ALL} == set(ours.ANSWERS) == answered_by_jax()


def test_at_least_18_listed_numbers_are_asked_for():
    listed = {q.text for q in (*VALUES, *OPTIMA, *PRIVACY) if q.listed is not None}
    assert len(listed) >= 18


@pytest.mark.parametrize(
    "question", [q for q in (*VALUES, *PRIVACY) if q.listed is not None], ids=lambda q: q.text
)
def test_our_answers_are_those_of_the_reference(question):
    found = table.number(question, table.asked_of_dpfunc(question))
    near = 1e-9 if question in VALUES else 1e-5
    assert found == pytest.approx(question.listed, rel=near)


@pytest.mark.parametrize("question", OPTIMA[:2] + OPTIMA[4:5], ids=lambda q: q.text)
def test_our_best_strategies_are_as_good_as_those_of_the_reference(question):
    found = table.number(question, table.asked_of_dpfunc(question))
    assert found == pytest.approx(question.listed, rel=1e-3)


def test_a_strategy_is_judged_by_the_definition():
    """C = [[1, 0], [1/2, 1]]: B = A C^-1 = [[1, 0], [1/2, 1]]; both steps: the columns' sum."""
    column, whole = np.array([1.0, 0.5]), np.array([[1.0, 0.0], [0.5, 1.0]])
    for c in (column, whole):
        assert root_error(c, 1, "max") == pytest.approx((1.25 * 1.25) ** 0.5)
        assert root_error(c, 1, "mean") == pytest.approx((1.125 * 1.25) ** 0.5)
        assert root_error(c, 2, "max") == pytest.approx((1.25 * (1 + 1.5**2)) ** 0.5)


def test_the_matrix_with_signs():
    c = np.array(with_signs(6, 3))
    assert (c.diagonal() == 1).all()
    assert (np.tril(c) == c).all()
    assert (c < 0).any()
    assert (np.tril(c, -3) == 0).all()
    assert (matrix(ours.as_dense(c)) == c).all()


def test_the_table():
    rows = [table.Row("a", 2.0, 2.0, 1.0), table.Row("b", None, 4.0, 4.0)]
    head, rule, first, second = table.lines("what", rows)
    assert head == "| what | listed | JAX-Privacy | dpfunc | difference |"
    assert first == "| a | 2 | 2 | 1 | -5e-01 |"
    assert second == "| b |  | 4 | 4 | +0e+00 |"
    assert {line.count("|") for line in (head, rule, first, second)} == {6}


def test_without_an_environment_it_says_so(monkeypatch):
    monkeypatch.delenv("JAX_PYTHON", raising=False)
    with pytest.raises(RuntimeError, match="JAX_PYTHON is not set"):
        table.asked_of_jax(VALUES)
