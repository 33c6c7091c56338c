"""Accountants side by side: bounds, gap to the truth, and time.

    python -m benchmarks.accounting            # all reference configurations, as a Markdown table
    python -m benchmarks.accounting --time     # three configurations against installed rivals
    python -m benchmarks.accounting --plot accounting.png

Values of the other libraries come with the reference file, which says which versions. Times are CPU
seconds of one thread, the best of several runs taken in turn.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dpfunc import accounting

REFERENCE = Path(__file__).with_name("accounting_reference.json")
RIVALS = {
    "dp-accounting PLD": "dpa_pld_default",
    "dp-accounting RDP": "dpa_rdp",
    "Opacus PRV": "opacus_prv",
    "Opacus RDP": "opacus_rdp",
    "Opacus GDP": "opacus_gdp",
    "prv-accountant": "prv_accountant",
    "opake": "opake_default",
}
TIMED = [(1.0, 0.01, 10_000), (0.6, 1e-3, 1_000_000), (5.0, 0.1, 1_000)]


def bounds(sigma: float, rate: float, steps: int, delta: float) -> accounting.Bounds:
    event = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    return accounting.epsilon_bounds(event, delta=delta)


def timed(call: Callable[[], object], repeats: int) -> float:
    """The least CPU time of several calls."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


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


def installed_rivals() -> dict[str, Callable[[float, float, int, float], float]]:
    """What can be called here; a library that is not installed is left out."""
    rivals: dict[str, Callable[[float, float, int, float], float]] = {}
    try:
        import dp_accounting as dpa
    except ImportError:
        print("dp-accounting is not installed: left out")
    else:

        def pld(sigma: float, rate: float, steps: int, delta: float) -> float:
            accountant = dpa.pld.PLDAccountant()
            event = dpa.PoissonSampledDpEvent(rate, dpa.GaussianDpEvent(sigma))
            return accountant.compose(event, steps).get_epsilon(delta)

        rivals["dp-accounting PLD"] = pld
    try:
        from opacus.accountants import PRVAccountant, RDPAccountant
    except ImportError:
        print("Opacus is not installed: left out")
    else:
        for name, kind in (("Opacus PRV", PRVAccountant), ("Opacus RDP", RDPAccountant)):

            def of(sigma: float, rate: float, steps: int, delta: float, kind=kind) -> float:
                accountant = kind()
                accountant.history = [(sigma, rate, steps)]
                return accountant.get_epsilon(delta)

            rivals[name] = of
    return rivals


def measure() -> dict[str, list[tuple[float, float]]]:
    """Seconds and gap to the truth of every accountant on the three timed settings."""
    everyone = {"dpfunc": lambda *setting: bounds(*setting).upper, **installed_rivals()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in everyone}
    for sigma, rate, steps in TIMED:
        truth = bounds(sigma, rate, steps, 1e-5)
        print(f"({sigma:g}, {rate:g}, {steps:g}, 1e-5): {truth.lower!r} .. {truth.upper!r}")
        for name, epsilon in everyone.items():
            value = epsilon(sigma, rate, steps, 1e-5)
            call = partial(epsilon, sigma, rate, steps, 1e-5)
            seconds = timed(call, 5 if name == "dpfunc" else 1)
            found[name].append((seconds, value / truth.lower - 1))
            off = value / truth.lower - 1
            print(f"  {name:18} {seconds * 1e3:10.1f} ms   {value:.9f}   {off:+.1e}")
    return found


def plot(found: dict[str, list[tuple[float, float]]], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5))
    for name, points in found.items():
        seconds, gaps = zip(*points, strict=True)
        axes.loglog(seconds, [max(abs(g), 1e-13) for g in gaps], "o", label=name)
    axes.set_xlabel("CPU seconds, one thread")
    axes.set_ylabel("gap to the truth, relative")
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    if options.time or options.plot:
        found = measure()
        if options.plot:
            plot(found, options.plot)
    else:
        print_table()


if __name__ == "__main__":
    main()
