"""The memory of this process, as Linux tells it: resident now, and at most since a reset."""

import ctypes
import gc
import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def resident() -> float:
    """MiB in use now, after everything that can be given back has been."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def reset_peak() -> None:
    """Begin to look for the peak anew."""
    (_PROCESS / "clear_refs").write_text("5")


def peak() -> float:
    """The most MiB in use at once since the reset (``ru_maxrss`` would include the parent's)."""
    return _status("VmHWM")


def _status(line: str) -> float:
    found = re.search(rf"{line}:\s+(\d+) kB", (_PROCESS / "status").read_text())
    return int(found[1]) / 1024
