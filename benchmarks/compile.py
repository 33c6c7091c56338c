"""What compiling a step costs once, and what a step then costs: against eager and plain PyTorch.

    python -m benchmarks.compile --workload mlp mnist_cnn --rounds 20 --threads 1

The first compiled step is timed with torch.compile's caches off. The steps then take turns as in
`benchmarks.step`.
"""

import argparse
import statistics
import time
import warnings

import torch

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.measure import timings
from benchmarks.workloads import WORKLOADS, make

NAMES = (PLAIN, "dpfunc", "dpfunc compiled")


def measure(workload: str, rounds: int) -> None:
    """Print the row of one workload."""
    work = make(workload)
    steps = {name: CONTENDERS[name](work) for name in NAMES}
    start = time.perf_counter()
    steps["dpfunc compiled"].take()
    first = time.perf_counter() - start
    seconds = timings(steps, rounds, 60.0)
    medians = [f"{statistics.median(own) * 1e3:.1f}" for own in seconds.values()]
    ratios = {
        name: statistics.median(
            own / base for own, base in zip(seconds[name], seconds[PLAIN], strict=True)
        )
        for name in NAMES[1:]
    }
    saved = statistics.median(seconds["dpfunc"]) - statistics.median(seconds["dpfunc compiled"])
    pays = f"{first / saved:,.0f}" if saved > 0 else "never"
    columns = [workload, f"{first:.0f}", *medians, *(f"{r:.2f}" for r in ratios.values()), pays]
    print(f"| {' | '.join(columns)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", nargs="*", default=["mlp", "mnist_cnn"], choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch.compiler.config.force_disable_caches = True
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds\n")
    heads = [
        *("workload", "first compiled step, s", "plain ms", "eager ms", "compiled ms"),
        *("eager / plain", "compiled / plain", "steps until it pays"),
    ]
    print(f"| {' | '.join(heads)} |")
    print(f"|{'---|' * len(heads)}")
    for workload in options.workload:
        measure(workload, options.rounds)


if __name__ == "__main__":
    main()
