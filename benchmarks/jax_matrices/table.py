"""The answers of both libraries side by side: asked here and in the process with JAX, as Markdown.

The environment's Python is the one that the variable ``JAX_PYTHON`` names::

    python -m venv ENV && ENV/bin/pip install jax-privacy==2.0.0
"""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.jax_matrices import ours
from benchmarks.jax_matrices.judged import root_error
from benchmarks.jax_matrices.questions import OPTIMA, PRIVACY, SIMULATED, VALUES, Question

ROOT = Path(__file__).parents[2]


class Row(NamedTuple):
    """What is asked, the number of the reference, and both answers."""

    text: str
    listed: float | None
    theirs: float
    ours: float


def asked_of_jax(questions: Sequence[Question]) -> list[Any]:
    """Their answers, in one process."""
    if "JAX_PYTHON" not in os.environ:
        raise RuntimeError("JAX_PYTHON is not set: the Python of an environment with jax-privacy")
    done = subprocess.run(
        [os.environ["JAX_PYTHON"], "-W", "ignore", "-m", "benchmarks.jax_matrices.theirs"],
        cwd=ROOT,
        input=json.dumps([(question.kind, question.arguments) for question in questions]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def asked_of_dpfunc(question: Question) -> Any:
    return ours.ANSWERS[question.kind](**question.arguments)


def number(question: Question, answer: Any) -> float:
    """A number stays; a strategy is evaluated, whichever library found it."""
    value = np.asarray(answer, np.float64)
    if value.ndim == 0:
        return float(value)
    return root_error(value, question.arguments["most"], question.arguments["error"])


def rows(questions: Sequence[Question], theirs: Iterable[Any]) -> list[Row]:
    return [
        Row(q.text, q.listed, number(q, answer), number(q, asked_of_dpfunc(q)))
        for q, answer in zip(questions, theirs, strict=True)
    ]


def lines(title: str, found: Sequence[Row]) -> list[str]:
    """A table; the difference is relative to theirs."""
    head = [f"| {title} | listed | JAX-Privacy | dpfunc | difference |", "|---|---|---|---|---|"]
    return head + [
        f"| {row.text} | {'' if row.listed is None else f'{row.listed:.7g}'} "
        f"| {row.theirs:.7g} | {row.ours:.7g} | {difference(row):+.0e} |"
        for row in found
    ]


def difference(row: Row) -> float:
    return row.ours / row.theirs - 1


def compared() -> None:
    """Print the tables, and how many answers are better than theirs."""
    parts = {
        "one right answer": VALUES,
        "the best strategy, evaluated by the definition": OPTIMA,
        "what a run costs": PRIVACY,
        "a simulation beside a proven bound": SIMULATED,
    }
    everything = [question for part in parts.values() for question in part]
    theirs = iter(asked_of_jax(everything))
    for title, part in parts.items():
        found = rows(part, [next(theirs) for _ in part])
        print("\n".join(lines(title, found)), end="\n\n", flush=True)
        if part is OPTIMA:
            better = sum(difference(row) < -1e-4 for row in found)
            print(f"dpfunc's error is lower by more than 1e-4 in {better} of {len(found)}\n")
    listed = sum(question.listed is not None for question in everything)
    print(f"{len(everything)} questions, {listed} of them with a number of the reference")
