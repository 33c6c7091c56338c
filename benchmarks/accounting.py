"""Accountants side by side: bounds, gap to the truth, and time.

    python -m benchmarks.accounting                 # all reference configurations, a Markdown table
    python -m benchmarks.accounting --rivals        # the same with every library run here, in turn
    python -m benchmarks.accounting --rivals opake  # with that one alone beside dpfunc
    python -m benchmarks.accounting --time          # three configurations, best of three
    python -m benchmarks.accounting --rivals --answers answers.json --plot accounting.png

Without ``--rivals`` values of the other libraries come with the reference file, which says which
versions. With it, or ``--time``, every answer comes from a fresh process (`accounting_rivals`);
``--python NAME=PATH`` says which interpreter has a library, where it is not this one, and what no
interpreter has is left out. ``--answers FILE`` keeps the answers, and asks only for those that it
does not have. Times are CPU seconds of one thread.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.accounting_rivals import EVERYONE, RIVALS, Answers, Asked, measure
from dpfunc import accounting

REFERENCE = Path(__file__).with_name("accounting_reference.json")
TIMED = [(1.0, 0.01, 10_000), (0.6, 1e-3, 1_000_000), (5.0, 0.1, 1_000)]


def bounds(sigma: float, rate: float, steps: int, delta: float) -> accounting.Bounds:
    event = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    return accounting.epsilon_bounds(event, delta=delta)


def gap(value: float | None, truth: float | None) -> str:
    """How far a value is from the truth, relative; bold where it claims less than the truth."""
    if value is None or truth is None or not math.isfinite(value) or truth == 0:
        return "-" if value is None or truth is None else str(value)
    off = value / truth - 1
    return f"**{off:+.1e}**" if off < -1e-9 else f"{off:+.1e}"


def print_table() -> None:
    columns = ["sigma, q, T, delta", "lower", "upper", "width", "engine", "s", *RIVALS]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for case in json.loads(REFERENCE.read_text())["configurations"]:
        setting = [case[k] for k in ("noise_multiplier", "sample_rate", "steps", "delta")]
        start = time.process_time()
        found = bounds(*setting)
        spent = time.process_time() - start
        others = " | ".join(gap(case["libraries"].get(r), case["truth"]) for r in RIVALS.values())
        print(
            f"| {', '.join(f'{x:g}' for x in setting)} | {found.lower:.10g} | {found.upper:.10g} "
            f"| {found.width:.0e} | {found.engine} | {spent:.3f} | {others} |",
            flush=True,
        )


def print_measured(settings: list[list[float]], truths: list[float], found: list[Answers]) -> None:
    """A row for each setting: the truth, and milliseconds and gap of each accountant."""
    names = [name for name in EVERYONE if any(name in best for best in found)]
    print("| sigma, q, T, delta | truth | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for setting, truth, best in zip(settings, truths, found, strict=True):
        cells = [
            f"{best[n]['seconds'] * 1e3:.3g} ms {gap(best[n]['epsilon'], truth)}"
            if n in best
            else "-"
            for n in names
        ]
        row = " | ".join(cells)
        print(f"| {', '.join(f'{x:g}' for x in setting)} | {truth:.9g} | {row} |", flush=True)


def plot(truths: list[float], found: list[Answers], path: str) -> None:
    """Time against gap; hollow where an accountant claims less than the truth."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for colour, name in enumerate(EVERYONE):
        label = name
        for truth, best in zip(truths, found, strict=True):
            if name not in best or not math.isfinite(best[name]["epsilon"]):
                continue
            off = best[name]["epsilon"] / truth - 1
            face = "none" if off < -1e-9 else f"C{colour}"
            spot = {"marker": "o", "linestyle": "", "label": label}
            axes.loglog(
                best[name]["seconds"], max(abs(off), 1e-13), color=f"C{colour}", mfc=face, **spot
            )
            label = "_"
    axes.set_xlabel("CPU seconds, one thread")
    axes.set_ylabel("gap to the truth, relative (hollow: below it)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), metavar="NAME")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--plot", metavar="FILE")
    parser.add_argument("--answers", type=Path, metavar="FILE")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--first", type=int, default=None, help="so many configurations only")
    options = parser.parse_args()
    if options.rivals is None and not (options.time or options.plot):
        print_table()
        return
    pythons = dict(pair.split("=", 1) for pair in options.python)
    if options.time:
        settings = [[*setting, 1e-5] for setting in TIMED]
        truths = [bounds(*setting).lower for setting in settings]  # type: ignore[arg-type]
    else:
        cases = json.loads(REFERENCE.read_text())["configurations"][: options.first]
        keys = ("noise_multiplier", "sample_rate", "steps", "delta")
        settings = [[case[key] for key in keys] for case in cases]
        truths = [case["truth"] for case in cases]
    who = Asked(["dpfunc", *(options.rivals or RIVALS)], pythons, 3 if options.time else 1)
    found = measure(settings, who, options.answers)
    print_measured(settings, truths, found)
    if options.plot:
        plot(truths, found, options.plot)


if __name__ == "__main__":
    main()
