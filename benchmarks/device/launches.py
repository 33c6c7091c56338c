"""What a steady step gives the device to do: operator calls, launches, and waits for the device."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.device.settings import Settings
from benchmarks.device.workloads import on_device

NAMES = (PLAIN, "dpfunc", "dpfunc without noise", "dpfunc replayed", "dpfunc engine")
WORKLOADS, WORKLOADS_OF_A_TINY_RUN = ("mlp", "mnist_cnn", "resnet18", "gpt2"), ("layer_linear",)


class _Calls(TorchDispatchMode):
    """Counts the operators that reach the device's kernels."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def launches(settings: Settings) -> dict[str, Any]:
    """A row for each workload and contender. Waits and launches are "-" where nothing is CUDA."""
    rows = []
    for workload in WORKLOADS_OF_A_TINY_RUN if settings.tiny else WORKLOADS:
        work = on_device(workload, settings)
        for name in NAMES:
            take = CONTENDERS[name](work).take
            for _ in range(3):  # looks, compilations and caches are before the steady step
                take()
            with _Calls() as calls:
                take()
            row = {"workload": workload, "step": name, "operator calls": calls.count}
            rows.append({**row, **_on_cuda(take, settings)})
    return {"rows": rows}


def _on_cuda(take: Callable[[], None], settings: Settings) -> dict[str, Any]:
    if settings.device.type != "cuda":
        return {"launches": "-", "waits": "-"}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        take()
        settings.synchronize()
    started = sum(event.count for event in seen.key_averages() if "LaunchKernel" in event.key)
    with warnings.catch_warnings(record=True) as waited:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            take()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [each for each in waited if "synchroniz" in str(each.message)]
    return {"launches": started, "waits": len(waits)}
