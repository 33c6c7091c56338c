"""What the accountant costs beside its answers: curves, the live budget, import time, memory.

    python -m benchmarks.accounting_cost

Times of curves and of the budget are CPU seconds of one thread. The import is timed with NumPy and
SciPy already there, the peak memory is that of a whole process; each in a process of its own.
"""

import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dpfunc import accounting
from dpfunc.accounting import Gaussian, Laplace, Poisson

DELTA = 1e-5
CURVES = [
    (Poisson(0.01, Gaussian(1.0)), 10_000),
    (Poisson(0.1, Gaussian(5.0)), 10_000),
    (Poisson(256 / 60_000, Gaussian(1.1)), 14_063),
    (Gaussian(30.0), 10_000),
    (Poisson(0.1, Laplace(2.0)), 100),
]
SETTINGS = [
    (1.0, 0.01, 10_000, 1e-5),
    (0.6, 1e-3, 1_000_000, 1e-5),
    (1.0, 1e-3, 1_000, 1e-6),
    (0.3, 1e-3, 100, 1e-5),
    (0.5, 1e-5, 1_000_000, 1e-6),
    (1.0, 1e-5, 1_000_000, 1e-5),
]
IMPORT = """
import time, numpy, scipy.fft, scipy.optimize, scipy.special
start = time.perf_counter()
import dpfunc.accounting
print(time.perf_counter() - start)
import sys
assert "torch" not in sys.modules
"""
MEMORY = """
import resource
{body}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def in_a_process(code: str) -> float:
    """The last number that ``code`` prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_curves() -> None:
    print(
        "| one step | steps | curve, s | live budget: all steps, s | longest wait, s | a look-up |"
    )
    print("|---|---|---|---|---|---|")
    for event, last in CURVES:
        start = time.process_time()
        accounting.epsilon_curve(event, steps=range(1, last + 1), delta=DELTA)
        whole = time.process_time() - start
        budget, waits = accounting.BudgetCurve(event, delta=DELTA), []
        for steps in range(1, last + 1):
            start = time.process_time()
            budget(steps)
            waits.append(time.process_time() - start)
        look_up = sorted(waits)[len(waits) // 2]
        print(
            f"| {event} | {last} | {whole:.2f} | {sum(waits):.2f} | {max(waits):.2f} "
            f"| {look_up * 1e6:.1f} us |",
            flush=True,
        )


def print_processes() -> None:
    print("| process | |")
    print("|---|---|")
    seconds = min(in_a_process(IMPORT) for _ in range(5))
    print(f"| import dpfunc.accounting, after NumPy and SciPy | {seconds:.3f} s |")
    empty = in_a_process(MEMORY.format(body="import dpfunc.accounting"))
    print(f"| peak memory of the import | {empty:.0f} MB |")
    for sigma, rate, steps, delta in SETTINGS:
        body = (
            "from dpfunc import accounting\n"
            f"event = accounting.dp_sgd(noise_multiplier={sigma}, sample_rate={rate}, "
            f"steps={steps})\n"
            f"accounting.epsilon_bounds(event, delta={delta})"
        )
        most = in_a_process(MEMORY.format(body=body))
        print(f"| peak memory of ({sigma:g}, {rate:g}, {steps:g}, {delta:g}) | {most:.0f} MB |")


def main() -> None:
    print_curves()
    print()
    print_processes()


if __name__ == "__main__":
    main()
