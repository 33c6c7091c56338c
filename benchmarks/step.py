"""What a private step costs: dpfunc and its rivals against a plain PyTorch step, in one run.

    python -m benchmarks.step                       every workload and contender
    python -m benchmarks.step --workload mlp --rounds 5

The contenders take turns, so a machine that slows down slows all of them; figures are medians over
the rounds, and ratios are medians of the ratios to the plain step of the same round. Peak memory
is that of a fresh process that takes three steps, above what it held before it built the step.
"""

import argparse
import multiprocessing
import platform
import re
import statistics
import time
import warnings
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS, Step
from benchmarks.workloads import WORKLOADS

PLAIN = "plain PyTorch"


def peak_memory(workload: str, contender: str, threads: int) -> float | None:
    """MiB of a fresh process, None where the contender cannot run the workload."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure_memory, (workload, contender, threads))


def _measure_memory(workload: str, contender: str, threads: int) -> float | None:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    work = WORKLOADS[workload]()
    before = _high_water_mark()
    try:
        step = CONTENDERS[contender](work)
        for _ in range(3):
            step()
    except Exception:
        return None
    return _high_water_mark() - before


def _high_water_mark() -> float:
    """Peak resident memory of this process in MiB (``ru_maxrss`` would include its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def timings(steps: dict[str, Step], rounds: int, most_seconds: float) -> dict[str, list[float]]:
    """Seconds of each contender in each round. A slow one sits out rounds past its time."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):  # two to warm up
        for name, step in steps.items():
            if turn > 4 and sum(seconds[name]) > most_seconds and name != PLAIN:
                continue
            start = time.perf_counter()
            step()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(workload: str, names: list[str], options: argparse.Namespace) -> None:
    work = WORKLOADS[workload]()
    steps, failures = {}, {}
    for name in names:
        try:
            step = CONTENDERS[name](work)
            step()
            steps[name] = step
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    seconds = timings(steps, options.rounds, options.seconds)
    memory = {n: peak_memory(workload, n, options.threads) for n in steps if not options.no_memory}
    parameters = sum(p.numel() for p in work.model.parameters())
    print(f"\n### {workload}: B={len(work.labels)}, {parameters:,} parameters\n")
    print("| step | ms | ratio to plain | rounds | peak MiB | ratio to plain |")
    print("|---|---|---|---|---|---|")
    for name, own in seconds.items():
        ratios = [mine / base for mine, base in zip(own, seconds[PLAIN], strict=False)]
        peak, base_peak = memory.get(name), memory.get(PLAIN)
        columns = [
            name,
            f"{statistics.median(own) * 1e3:.1f}",
            f"{statistics.median(ratios):.2f}",
            str(len(own)),
            "-" if peak is None else f"{peak:.0f}",
            "-" if not peak or not base_peak else f"{peak / base_peak:.2f}",
        ]
        print(f"| {' | '.join(columns)} |", flush=True)
    for name, failure in failures.items():
        print(f"| {name} | cannot run it: {failure} | | | | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--contender", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="most for one contender")
    parser.add_argument("--no-memory", action="store_true", help="time only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{options.threads} threads, {options.rounds} rounds"
    )
    names = [PLAIN, *(name for name in options.contender if name != PLAIN)]
    for workload in options.workload:
        measure(workload, names, options)


if __name__ == "__main__":
    main()
