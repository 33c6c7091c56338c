"""The high-water mark of this process's memory."""

import re
from pathlib import Path


def high_water_mark() -> float:
    """Peak resident memory of this process in MiB (``ru_maxrss`` would include its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
