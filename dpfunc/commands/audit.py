"""``python -m dpfunc audit FILE.py:ADAPTER``: `check_step` on the step of any library."""

import argparse
import runpy
from pathlib import Path
from typing import Any

from dpfunc.audit.steps.report import Report
from dpfunc.audit.steps.step_check import check_step
from dpfunc.checks import require

DESCRIPTION = """\
Check what one record does to the clipped sum of a training step, of any library.

FILE.py:ADAPTER names a function without arguments. It returns a Report of dpfunc.audit, or a dict
of arguments for dpfunc.audit.check_step: summed(batch) -> {name: tensor}, batch, bound, and, to
compare gradients, plain_grad(record). docs/audit.md has adapters for dpfunc and Opacus.

The exit code is 1 where something was found."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is checked, and how it is reported."""
    parser.add_argument("adapter", metavar="FILE.py:ADAPTER", help="a function in a file")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    report = _report(options.adapter)
    print(report.to_json() if options.json else report)
    return 0 if report else 1


def _report(adapter: str) -> Report:
    path, _, name = adapter.rpartition(":")
    require(
        bool(path) and Path(path).is_file(),
        "audit",
        "FILE.py:ADAPTER with a file that is there",
        adapter,
        "name the function that returns the arguments of check_step",
    )
    function = runpy.run_path(path).get(name)
    require(
        callable(function),
        "audit",
        f"a function {name} in {path}",
        function,
        "define it, without arguments",
    )
    answer: Any = function()  # type: ignore[misc]  # callable: checked above
    if isinstance(answer, Report):
        return answer
    require(
        isinstance(answer, dict),
        "audit",
        f"a dict or a Report from {name}",
        type(answer).__name__,
        'return {"summed": ..., "batch": ..., "bound": ...}',
        error=TypeError,
    )
    return check_step(**answer)
