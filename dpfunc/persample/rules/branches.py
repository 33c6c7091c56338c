"""torch.cond: PyTorch would trace its branches, and their taps would be lost."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpfunc.persample.batches.nested import replace_tensors, tensors_in
from dpfunc.persample.watching.capture import Rule, Tape
from dpfunc.persample.watching.under_vmap import is_mapped


def _cond(
    tape: Tape,
    pred: Any,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: Sequence[Any] = (),
) -> Any:
    """Under vmap both branches, and of each sample the one that it takes: as vmap itself does."""
    with tape:
        if not (isinstance(pred, Tensor) and is_mapped(pred)):
            return (true_fn if pred else false_fn)(*operands)
        taken = true_fn(*operands)
        others = iter(tensors_in(false_fn(*operands)))
        return replace_tensors(taken, lambda values: torch.where(pred, values, next(others)))


BRANCH_RULES = {torch.ops.higher_order.cond: Rule(_cond, always=True)}
