"""``values[mask] = number``: written so that vmap can run it, and that no sample is moved."""

from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.capture import Rule, Tape


def _set_item(tape: Tape, values: Tensor, index: Any, new: Any) -> Any:
    if not (isinstance(index, Tensor) and index.dtype == torch.bool) or index.dim() == 0:
        return NotImplemented
    if tape.mentions((values, index, new)) or (isinstance(new, Tensor) and new.dim() > 0):
        return NotImplemented
    mask = index.reshape(*index.shape, *(1,) * (values.dim() - index.dim()))
    values.masked_fill_(mask, new)
    return None


MASK_RULES = {Tensor.__setitem__: Rule(_set_item, always=True)}
