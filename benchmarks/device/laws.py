"""The tests of randomness and the laws L1, L2, L7 and L8, on the device."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.device.settings import Settings

ROOT = Path(__file__).parents[2]
TESTS = [
    "tests/random",
    "tests/noise",
    *(
        str(path)
        for law in ("l1", "l2", "l7", "l8")
        for path in ROOT.glob(f"tests/laws/test_{law}_*")
    ),
]
FEW = ["tests/random/test_continuous.py"]
SECONDS, SECONDS_OF_A_TINY_RUN = 240, 120


def laws(settings: Settings) -> dict[str, Any]:
    """What pytest says of the tests that carry the device in their names."""
    files = FEW if settings.tiny else TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0" if settings.tiny else "8"]
    command += ["-p", "no:cacheprovider", "-k", settings.device.type, *files]
    limit = SECONDS_OF_A_TINY_RUN if settings.tiny else SECONDS
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit} seconds", "command": " ".join(command[1:])}
    lines = done.stdout.strip().splitlines()
    answer = {"result": lines[-1] if lines else done.stderr, "command": " ".join(command[1:])}
    if done.returncode:
        red = [line for line in lines if re.match("FAILED|ERROR", line)]
        answer["failed"] = "; ".join(red) or f"pytest ended with {done.returncode}"
    return answer
