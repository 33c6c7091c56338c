"""One page about one GPU: laws, bit-equality of the noise, step times, memory, launches and waits.

    python -m benchmarks.gpu --out gpu                 gpu.md and gpu.json, in under eight minutes
    python -m benchmarks.gpu --out cpu --device cpu --tiny

Needs no network. A section that fails says so in the page, and the others go on. What is slower
than its share of the time is left out, and the page names it.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.device.launches import launches
from benchmarks.device.laws import laws
from benchmarks.device.noise import noise
from benchmarks.device.settings import Settings
from benchmarks.device.steps import steps

Section = Callable[[Settings], dict[str, Any]]

SECTIONS: dict[str, Section] = {
    "laws": laws,
    "noise": noise,
    "launches": launches,
    "steps": steps,
}


def machine(settings: Settings) -> dict[str, str]:
    """What the figures depend on."""
    found = {"device": str(settings.device), "python": platform.python_version()}
    if settings.device.type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(settings.device)
        found["CUDA"] = str(torch.version.cuda)
    for package in ("torch", "triton", "transformers", "opacus"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def measured(settings: Settings, sections: dict[str, Section]) -> dict[str, Any]:
    """The answers of every section, each with the seconds that it took."""
    answers: dict[str, Any] = {"machine": machine(settings)}
    for name, section in sections.items():
        start = time.perf_counter()
        try:
            answers[name] = section(settings)
        except Exception as error:  # the page says so, and the exit status
            answers[name] = {"failed": f"{type(error).__name__}: {error}"}
        answers[name]["seconds"] = round(time.perf_counter() - start, 1)
        print(f"{name}: {answers[name]['seconds']} s", flush=True)
    return answers


def page(answers: dict[str, Any]) -> str:
    """The answers in Markdown: a table for each section."""
    lines = ["# Measured on a device", ""]
    lines += [f"- {name}: {value}" for name, value in answers["machine"].items()]
    for name in (name for name in answers if name != "machine"):
        answer = dict(answers[name])
        rows = answer.pop("rows", [])
        lines += ["", f"## {name}", ""]
        lines += [f"- {each}: {value}" for each, value in answer.items()]
        if rows:
            columns = list(rows[0])
            lines += ["", _row(columns), _row(["---"] * len(columns))]
            lines += [_row([row.get(column, "") for column in columns]) for row in rows]
    return "\n".join(lines) + "\n"


def _row(cells: list[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where to write .md and .json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a form that a CPU runs in a minute")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here; try --device cpu --tiny")
    answers = measured(
        Settings(device, options.tiny), {name: SECTIONS[name] for name in options.only}
    )
    options.out.with_suffix(".json").write_text(json.dumps(answers, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(page(answers))
    failed = [name for name in options.only if "failed" in answers[name]]
    print(f"failed: {', '.join(failed)}" if failed else "every section ran")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
