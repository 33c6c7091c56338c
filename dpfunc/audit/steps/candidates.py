"""Records that a step must stand: real ones, scaled, empty, at the border, not finite, repeated."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dpfunc.random.continuous import normal
from dpfunc.random.keys import fold_in, key

Batch = tuple[Tensor, ...]

_SCALES = (1e-3, 30.0, 1e4, 1e20)


def candidates(batch: Batch, *, real: int) -> dict[str, Batch]:
    """Records by what they are, each with the axis of samples; the first record is changed."""
    found = {f"record {i}": record(batch, i) for i in range(min(real, len(batch[0])))}
    first = record(batch, 0)
    for scale in _SCALES:
        found[f"record 0 times {scale:g}"] = _changed(first, partial(torch.mul, other=scale))
    noise = fold_in(key(0), "audit candidates")  # public: any values will do
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "zeros": torch.zeros_like,
        "ones": torch.ones_like,
        "border alone": _border,
        "noise": lambda x: normal(noise, tuple(x.shape), dtype=torch.float32).to(x),
        "NaN": lambda x: torch.full_like(x, torch.nan),
        "infinity": lambda x: torch.full_like(x, torch.inf),
    }
    return found | {name: _changed(first, change) for name, change in changes.items()}


def record(batch: Batch, i: int) -> Batch:
    """Record ``i`` as a batch of one."""
    return tuple(part[i : i + 1] for part in batch)


def joined(batch: Batch, record: Batch) -> Batch:
    """The batch with the record at its end."""
    return tuple(torch.cat([a, b]) for a, b in zip(batch, record, strict=True))


def _changed(record: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The floating-point parts changed: the others are labels and tokens."""
    return tuple(change(part) if part.is_floating_point() else part for part in record)


def _border(x: Tensor) -> Tensor:
    """Zero but for the ends of the last two axes, beyond that of samples: where padding reads."""
    edge = torch.zeros_like(x, dtype=torch.bool)
    for axis in range(max(1, x.ndim - 2), x.ndim):
        for end in (0, x.shape[axis] - 1):
            edge.select(axis, end).fill_(True)
    return torch.where(edge, x + 1, torch.zeros_like(x))
