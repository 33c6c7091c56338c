"""How many samples at a time fit a budget of bytes: counted by a run on shapes, without data."""

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dpfunc.checks import require
from dpfunc.persample.batches.nested import replace_tensors

DEFAULT_SHARE = 0.5
"""The part of the free memory that is the budget where none is given."""

_TRIES = 10


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations inside make and that are still in use."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.now = 0
        self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        replace_tensors((args, kwargs), self._ignore)
        result = func(*args, **(kwargs or {}))
        replace_tensors(result, self._count)
        return result

    def _ignore(self, given: Tensor) -> None:
        """What an operation gets and no operation in here has made was there before."""
        self._known.add(given.untyped_storage())

    def _count(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes at a time that the operations of ``run()`` hold, beyond what was there.

    Counts the tensors that PyTorch operations return, on all devices together; what a kernel takes
    for itself meanwhile, and what an allocator wastes, comes on top.
    """
    live = _LiveBytes()
    with live:
        run()
    return live.peak


def largest_fitting(peak_of: Callable[[int], int], most: int, budget: int) -> int:
    """About the largest n in ``1 ... most`` with ``peak_of(n) <= budget``, which surely fits.

    Assumes that the peak grows with n. Looks in turn where a straight line through the nearest that
    fits and the nearest that does not meets the budget, and at the geometric mean of the two.
    ValueError where not even one sample fits.
    """
    least = peak_of(1)
    require(
        least <= budget,
        "PrivateGrad",
        f"a memory_budget of at least {least} bytes, the peak of one sample at a time",
        budget,
        "raise it, or make the model or the sample smaller",
    )
    below, above = (1, least), (most, peak_of(most))
    if above[1] <= budget:
        return most
    for attempt in range(_TRIES):
        if above[0] - below[0] <= max(1, below[0] // 16):
            break
        if attempt % 2:
            size = math.isqrt(below[0] * above[0])
        else:
            share = (budget - below[1]) / (above[1] - below[1])
            size = below[0] + round(share * (above[0] - below[0]))
        size = min(max(size, below[0] + 1), above[0] - 1)
        peak = peak_of(size)
        if peak <= budget:
            below = (size, peak)
        else:
            above = (size, peak)
    return below[0]


def free_bytes(device: torch.device) -> int:
    """The memory of ``device`` that is free now. RuntimeError where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    known = Path("/proc/meminfo")
    if device.type != "cpu" or not known.exists():
        raise RuntimeError(
            f'microbatch_size="auto": expected to learn the free memory of {device.type!r} but '
            "this system does not tell; pass memory_budget in bytes."
        )
    lines = dict(line.split(":", 1) for line in known.read_text().splitlines())
    return min(int(lines["MemAvailable"].split()[0]) * 1024, _free_in_container())


def _free_in_container() -> int:
    """What a container's limit leaves; without a limit, more than any machine has."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except FileNotFoundError:  # no control group, or one of the older kind
        return 2**62
    return 2**62 if limit == "max" else max(0, int(limit) - used)
