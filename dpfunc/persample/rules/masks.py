"""``values[mask] = new`` with one ``new`` for every place, as `torch.where`, which vmap can run.

New values that differ from place to place would have to be counted, and moved to where the mask is.
"""

from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.watching.capture import Rule, Tape


def _set_item(tape: Tape, values: Tensor, index: Any, new: Any) -> Any:
    if not (isinstance(index, Tensor) and index.dtype == torch.bool) or index.dim() == 0:
        return NotImplemented
    within = values.dim() - index.dim()  # the axes of what a mask's entry stands for
    if tape.mentions((values, index)) or (isinstance(new, Tensor) and new.dim() > within):
        return NotImplemented
    mask = index.reshape(*index.shape, *(1,) * within)
    if not isinstance(new, Tensor):
        values.masked_fill_(mask, new)
        return None
    with tape:
        masked = torch.where(mask, new, values)
    if tape.mentions(masked):
        raise RuntimeError(
            "batched: expected to tell the samples apart in __setitem__ but it writes a parameter "
            "into a tensor that is the same for all samples; use torch.where."
        )
    values.copy_(masked)
    return None


MASK_RULES = {Tensor.__setitem__: Rule(_set_item, always=True)}
