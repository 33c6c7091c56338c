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


def test_each_is_listed():
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [path.name for path in FILES]
