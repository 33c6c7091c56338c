"""Norms and sums in full precision, whatever the user's settings for the model are.

The bound of a clipped sum holds for the norms and sums as they are computed. Autocast and the
TensorFloat32 or bfloat16 modes of float32 products round them to 8 or 11 bits: enough for one
record to move a sum of thousands by many times the bound.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_SETTINGS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]  # made at run time
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]  # made at run time
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]  # made at run time
    torch.backends.mkldnn.rnn,  # type: ignore[attr-defined]  # made at run time
)
_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that autocast computes in on ``device``, where it is on."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Inside, operations on ``device`` compute in the dtype of what they are given."""
    if autocast_dtype(device) is None:
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 products are float32 products. The settings are put back afterwards."""
    before = [setting.fp32_precision for setting in _SETTINGS]
    with ExitStack() as stack:
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for setting in _SETTINGS:
                setting.fp32_precision = "ieee"
            yield
        finally:
            for setting, value in zip(_SETTINGS, before, strict=True):
                setting.fp32_precision = value


def autocast_dtypes() -> dict[str, torch.dtype]:
    """The devices for which autocast is on, and the dtype that it casts to."""
    return {
        device: torch.get_autocast_dtype(device)
        for device in _AUTOCAST_DEVICES
        if torch.is_autocast_enabled(device)
    }
