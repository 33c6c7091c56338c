"""A run that is killed -9 in the middle of a step and resumed releases the same, bit for bit."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 60


def released(folder):
    lines = (folder / "released").read_text().splitlines()
    # A kill may cut a line short: such a release never left the machine.
    return [tuple(line.split()) for line in lines if len(line.split()[-1]) == 64]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_and_resumed_it_releases_what_it_would_have(tmp_path, kills):
    program = [sys.executable, "-m", "tests.engine.crashing_run"]
    command = [*program, str(tmp_path), str(STEPS), str(kills)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0", str(kills), "0"]  # killed, and how it ended
    straight, crashed = released(tmp_path / "straight"), released(tmp_path / "crashed")
    assert [int(step) for step, _ in straight] == list(range(STEPS))
    assert len({digest for _, digest in straight}) == STEPS
    assert len(crashed) > STEPS  # some steps were released, lost, and released again
    assert set(crashed) == set(straight)
