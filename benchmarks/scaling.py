"""How a step scales: with the batch size on the MNIST CNN, with depth and width on the MLP."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.contenders.dpfunc_steps import microbatched
from benchmarks.measure import peak_memory, timings
from benchmarks.workloads import mlp, mnist_cnn
from benchmarks.workloads.workload import Workload

# Making the one-line functions here would hide them from the processes that measure memory.
STEPS = {
    PLAIN: CONTENDERS[PLAIN],
    "dpfunc": CONTENDERS["dpfunc"],
    "dpfunc, microbatches of 256": microbatched,
}


def _cells(
    make: Callable[[], Workload], names: list[str], rounds: int, threads: int
) -> Iterator[tuple[float, float, float]]:
    """Of each step: the median seconds, the median ratio to the first, and the peak MiB."""
    work = make()
    seconds = timings({name: STEPS[name](work) for name in names}, rounds, 10.0)
    for name, own in seconds.items():
        ratios = [mine / base for mine, base in zip(own, seconds[PLAIN], strict=False)]
        peak = peak_memory(make, STEPS[name], threads)
        yield statistics.median(own), statistics.median(ratios), peak


def batch(rounds: int, threads: int) -> None:
    """Time a sample, and memory, of batches of 16 to 4096."""
    print("\n### scaling_batch: the MNIST CNN at growing batch sizes\n")
    heads = [f"{name}: {unit}" for name in STEPS for unit in ("us a sample", "peak MiB")]
    print(f"| B | {' | '.join(heads)} |")
    print(f"|{'---|' * (1 + len(heads))}")
    for size in (16, 64, 256, 1024, 4096):
        cells = _cells(partial(mnist_cnn, size), list(STEPS), rounds, threads)
        columns = [f"{s / size * 1e6:.0f} | {peak:.0f}" for s, _, peak in cells]
        print(f"| {size} | {' | '.join(columns)} |", flush=True)


def _of_mlp(name: str, shapes: list[dict[str, int]], rounds: int, threads: int) -> None:
    print(f"\n### scaling_{name}: the MLP at B=256 with growing {name}\n")
    print(f"| {name} | plain ms | dpfunc ms | ratio | plain peak MiB | dpfunc peak MiB |")
    print("|---|---|---|---|---|---|")
    for shape in shapes:
        make = partial(mlp, **shape)
        (base, _, base_peak), (own, ratio, peak) = _cells(make, list(STEPS)[:2], rounds, threads)
        columns = [f"{base * 1e3:.1f}", f"{own * 1e3:.1f}", f"{ratio:.2f}"]
        columns += [f"{base_peak:.0f}", f"{peak:.0f}"]
        print(f"| {shape[name]} | {' | '.join(columns)} |", flush=True)


def depth(rounds: int, threads: int) -> None:
    _of_mlp("depth", [{"width": 512, "depth": d} for d in (1, 2, 4, 8, 16)], rounds, threads)


def width(rounds: int, threads: int) -> None:
    _of_mlp("width", [{"width": w} for w in (64, 256, 1024, 4096)], rounds, threads)


SCALINGS: dict[str, Callable[[int, int], None]] = {
    "scaling_batch": batch,
    "scaling_depth": depth,
    "scaling_width": width,
}
