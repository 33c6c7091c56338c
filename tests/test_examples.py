"""Each example runs, in a tiny form, as a reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_spent(path):
    command = [sys.executable, "-W", "ignore", str(path), "--steps", "2"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert re.search(r"epsilon (between )?\d+\.\d", run.stdout), run.stdout


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


def test_each_is_listed():
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [path.name for path in FILES]
