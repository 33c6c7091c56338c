"""What a private step costs: dpfunc and its rivals against a plain PyTorch step, in one run.

    python -m benchmarks.step                       every table
    python -m benchmarks.step --workload mlp --rounds 5
    python -m benchmarks.step --workload scaling_batch

The contenders take turns, so a machine that slows down slows all of them; figures are medians over
the rounds, and ratios are medians of the ratios to the plain step of the same round. Peak memory
is that of two steps in a fresh process, above what it held when a step on one sample had loaded the
libraries. JAX runs in an environment of its own, see `benchmarks.contenders.jax_steps`.
"""

import argparse
import os
import platform
import statistics
import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.measure import TIMES_SLOWER, built, peak_memory, timings
from benchmarks.scaling import SCALINGS
from benchmarks.workloads import WORKLOADS, make


def measure(workload: str, options: argparse.Namespace) -> None:
    """Print the table of one workload."""
    work = make(workload)
    names = [PLAIN, *(name for name in options.contender if name != PLAIN)]
    steps, failures = built(work, names)
    seconds = timings(steps, options.rounds, options.seconds)
    steps.clear()  # those in other processes end here
    peaks = {name: _peak(workload, name, options) for name in seconds}
    parameters = sum(p.numel() for p in work.model.parameters())
    print(f"\n### {workload}: B={len(work.labels)}, {parameters:,} parameters\n")
    print("| step | ms | ratio to plain | rounds | peak MiB | ratio to plain |")
    print("|---|---|---|---|---|---|")
    for name, own in seconds.items():
        ratios = [mine / base for mine, base in zip(own, seconds[PLAIN], strict=False)]
        columns = [name, f"{statistics.median(own) * 1e3:.1f}", f"{statistics.median(ratios):.2f}"]
        columns += [str(len(own)), *_memory(peaks[name], peaks[PLAIN])]
        print(f"| {' | '.join(columns)} |", flush=True)
    for name, failure in failures.items():
        print(f"| {name} | cannot run it: {failure} | | | | |", flush=True)


def _peak(workload: str, name: str, options: argparse.Namespace) -> float | None:
    """None where it was not asked for, or where the process ran out of memory."""
    if not options.memory:
        return None
    try:
        return peak_memory(partial(make, workload), CONTENDERS[name], options.threads)
    except Exception as error:
        print(f"<!-- {name}: no peak memory, {type(error).__name__}: {str(error)[:80]} -->")
        return None


def _memory(peak: float | None, base: float | None) -> tuple[str, str]:
    """A peak and its ratio to the plain step's, "-" where one is missing or next to nothing."""
    if peak is None:
        return "-", "-"
    return f"{peak:.0f}", "-" if base is None or base < 0.1 else f"{peak / base:.2f}"


def machine(options: argparse.Namespace) -> str:
    """What the figures depend on: versions, processor, threads and rounds."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":")[1].strip() for line in info.splitlines() if "model name" in line]
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "opacus", "opake", "transformers", "peft"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    return (
        f"{', '.join(versions)}; {os.cpu_count()} x {models[0] if models else platform.machine()}; "
        f"{options.threads} threads; {options.rounds} rounds, where a contender more than "
        f"{TIMES_SLOWER:.0f} times slower than plain sits out rounds after {options.seconds:.0f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = [*WORKLOADS, *SCALINGS]
    parser.add_argument("--workload", nargs="*", default=tables, choices=tables)
    parser.add_argument("--contender", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="for a slow contender")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="time only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    print(machine(options))
    for workload in options.workload:
        if workload in SCALINGS:
            SCALINGS[workload](options.rounds, options.threads)
        else:
            measure(workload, options)


if __name__ == "__main__":
    main()
