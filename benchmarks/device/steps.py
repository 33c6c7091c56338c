"""Step time and peak memory beside plain PyTorch and Opacus, in one run, as ratios of medians."""

import gc
import statistics
import time
from typing import Any

import torch

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.device.settings import Settings
from benchmarks.device.workloads import LARGE, on_device
from benchmarks.measure import built, timings

NAMES = [PLAIN, "dpfunc", "dpfunc without noise", "dpfunc engine", "Opacus hooks", "Opacus ghost"]
WORKLOADS = [
    *("mlp", "mnist_cnn", "cifar_cnn", "embedding", "lstm", "wrn_16_4", "resnet18", "transformer"),
    *("gpt2", "gpt2_lora", *LARGE),
]
WORKLOADS_OF_A_TINY_RUN = ["layer_linear"]
ROUNDS, MOST_SECONDS, SECONDS = 10, 5.0, 200.0


def steps(settings: Settings) -> dict[str, Any]:
    """A row for each workload and contender, until the time is up."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    until = time.monotonic() + SECONDS
    for workload in WORKLOADS_OF_A_TINY_RUN if settings.tiny else WORKLOADS:
        if time.monotonic() > until:
            left_out.append(workload)
            continue
        rows += _rows(workload, settings)
    return {"rows": rows, "left out for time": ", ".join(left_out) or "nothing"}


def _rows(workload: str, settings: Settings) -> list[dict[str, Any]]:
    work = on_device(workload, settings)
    ready, failures = built(work, NAMES)
    seconds = timings(ready, ROUNDS, MOST_SECONDS, finish=settings.synchronize)
    ready.clear()
    rows = []
    base: float | None = None
    for name, own in seconds.items():
        ratios = [mine / plain for mine, plain in zip(own, seconds[PLAIN], strict=False)]
        peak = _peak(workload, name, settings)
        base = peak if name == PLAIN else base
        rows.append(
            {
                "workload": workload,
                "step": name,
                "ms": round(1e3 * statistics.median(own), 2),
                "ratio to plain": round(statistics.median(ratios), 2),
                "peak MiB": "-" if peak is None else round(peak),
                "memory ratio": "-" if peak is None or not base else round(peak / base, 2),
            }
        )
    said = ({"workload": workload, "step": name, "ms": why} for name, why in failures.items())
    return [*rows, *said]


def _peak(workload: str, name: str, settings: Settings) -> float | None:
    """MiB above what the model and the batch take, over two steps; None where nothing counts it."""
    if settings.device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    work = on_device(workload, settings)
    before = torch.cuda.memory_allocated(settings.device)
    try:
        take = CONTENDERS[name](work).take
        torch.cuda.reset_peak_memory_stats(settings.device)
        for _ in range(2):
            take()
    except torch.cuda.OutOfMemoryError:
        return None
    return (torch.cuda.max_memory_allocated(settings.device) - before) / 2**20
