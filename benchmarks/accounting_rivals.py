"""What every accountant answers to the same questions, each in a fresh process, in turn.

In go settings ``[sigma, q, T, delta]`` and which interpreter has which library; out come epsilons
and CPU seconds. Answers may be kept in a file: what is there is not asked again, so that a long run
can be stopped and gone on with, and one library can be added to the others.
"""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RIVALS = {
    "dp-accounting PLD": "dpa_pld_default",
    "dp-accounting RDP": "dpa_rdp",
    "Opacus PRV": "opacus_prv",
    "Opacus RDP": "opacus_rdp",
    "Opacus GDP": "opacus_gdp",
    "prv-accountant": "prv_accountant",
    "opake": "opake_default",
}
EVERYONE = ["dpfunc", *RIVALS]
Answer = dict[str, float]  # epsilon and seconds
Answers = dict[str, Answer]  # of the accountants, by name
_TRIAL = [1.0, 0.1, 10, 1e-5]


class Asked(NamedTuple):
    """Who is asked, with which interpreter, how often (the least time counts)."""

    names: Sequence[str]
    pythons: dict[str, str]
    repeats: int


def measure(settings: list[list[float]], who: Asked, kept: Path | None) -> list[Answers]:
    """For each setting what is known of it: from the file, and by asking those named."""
    known: dict[str, Answers] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    able = [name for name in who.names if _asked(name, who, _TRIAL)]
    for setting in settings:
        answers = known.setdefault(_key(setting), {})
        missing = [name for name in able if name not in answers]
        for name in missing * who.repeats:
            answer = _asked(name, who, setting)
            if answer and answer["seconds"] < answers.get(name, {"seconds": math.inf})["seconds"]:
                answers[name] = answer
            if kept:
                kept.write_text(json.dumps(known, indent=1) + "\n")
    return [known[_key(setting)] for setting in settings]


def _key(setting: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in setting)


def _asked(name: str, who: Asked, setting: list[float]) -> Answer | None:
    """What an accountant answers in a fresh process, and the CPU seconds; None where it fails."""
    python = who.pythons.get(name, sys.executable)
    arguments = [name, *(repr(number) for number in setting)]
    command = [python, "-m", "benchmarks.accounting_worker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        print(f"  {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer
