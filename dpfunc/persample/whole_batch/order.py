"""Samples picked by an index, in a loss of the whole batch: each has to stay in its place.

Sorted by length and back again, the losses are right, and the gradients belong to other samples.
Such an order depends on the data, so that a look at some samples cannot exclude it: every index
along the axis of samples is looked at, in every batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dpfunc.persample.whole_batch.places import Place, Places

Picked = Iterator[tuple[int, Tensor]]
"""Axes of a tensor with the index that picks along each."""


def require_order(places: Places, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
    """RuntimeError where an index moves samples, or picks some of them."""
    picked = _PICKED.get(func)
    if picked is None:
        return
    values, axes_and_indices = picked(*args, **kwargs)
    pairs = [(axis, index) for axis, index in axes_and_indices if isinstance(index, Tensor)]
    if not pairs:
        return
    operation = func.__name__
    place = places.of(operation, values)
    for axis, index in pairs:
        if place is not None and axis == place.axis and not _stays(index, place, places.size):
            raise RuntimeError(
                f"batched: expected {operation} to leave the samples in their order but its index "
                "moves them, or picks some; their gradients would be taken for those of others. "
                "Write the loss of one sample instead (no batched), or mask instead of sorting."
            )


def picks(func: Any) -> bool:
    """Whether ``func`` picks entries by an index."""
    return func in _PICKED


def _stays(index: Tensor, place: Place, size: int) -> bool:
    """Whether entry i of ``index``, or its i-th run of entries, is from sample i."""
    if index.device.type == "meta":
        return True
    if index.dtype == torch.bool or index.numel() % size:
        return False
    own = torch.arange(size, device=index.device).unsqueeze(1)
    return bool((index.reshape(size, -1) // place.times == own).all())


def _items(values: Tensor, index: Any, *_: Any) -> tuple[Tensor, Picked]:
    return values, _axes_of(values, index if isinstance(index, tuple) else (index,))


def _axes_of(values: Tensor, index: Sequence[Any]) -> Picked:
    index = [_as_tensor(part, values) for part in index]
    taken = sum(_length(part) for part in index)
    axis = 0
    for part in index:
        if part is Ellipsis:
            axis += values.dim() - taken
        else:
            for step in range(_length(part)):
                yield axis + step, part
            axis += _length(part)


def _as_tensor(part: Any, values: Tensor) -> Any:
    if isinstance(part, list | range | np.ndarray):
        return torch.as_tensor(part, device=values.device)
    return part


def _length(part: Any) -> int:
    """How many axes a part of an index takes."""
    if part is None or part is Ellipsis:
        return 0
    return part.dim() if isinstance(part, Tensor) and part.dtype == torch.bool else 1


def _along(input: Tensor, dim: int, index: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Picked]:
    return input, iter([(dim % input.dim(), index)])


def _take_along(
    input: Tensor, indices: Tensor, dim: int | None = None, **_: Any
) -> tuple[Tensor, Picked]:
    return input, iter([] if dim is None else [(dim % input.dim(), indices)])


def _put(input: Tensor, indices: Sequence[Any], *_: Any, **__: Any) -> tuple[Tensor, Picked]:
    return input, _axes_of(input, indices)


def _of_table(input: Tensor, weight: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Picked]:
    return weight, iter([(0, input)])


def _by_number(input: Tensor, index: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Picked]:
    """Entries by their number in all of ``input``, whose samples are in front."""
    each = input.numel() // max(1, len(input)) if input.dim() else 1
    return input, iter([(0, index // max(1, each))])


_MOVING = (
    *("gather", "index_add", "index_copy", "index_reduce", "index_select"),
    *("scatter", "scatter_add", "scatter_reduce"),
)


def _spelt(names: Sequence[str], picked: Any) -> dict[Any, Any]:
    """By all functions of these names: torch's, of tensors, and in place."""
    each = [
        (place, name + mark) for place in (torch, Tensor) for name in names for mark in ("", "_")
    ]
    return {getattr(*at): picked for at in each if hasattr(*at)}


_PICKED: dict[Any, Callable[..., tuple[Tensor, Picked]]] = {
    **dict.fromkeys((Tensor.__getitem__, Tensor.__setitem__), _items),
    **dict.fromkeys((torch.take_along_dim, Tensor.take_along_dim), _take_along),
    F.embedding: _of_table,
    **_spelt(_MOVING, _along),
    **_spelt(("index_put",), _put),
    **_spelt(("put", "take"), _by_number),
}
