"""Samples picked by an index, in a loss of the whole batch: each has to stay in its place.

Sorted by length and back again, the losses are right, and the gradients belong to other samples.
Such an order depends on the data, so that a look at some samples cannot exclude it: every index
along the axis of samples is looked at, in every batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
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


def _axes_of(values: Tensor, index: tuple[Any, ...]) -> Picked:
    taken = sum(_length(part) for part in index)
    axis = 0
    for part in index:
        if part is Ellipsis:
            axis += values.dim() - taken
        else:
            part = torch.tensor(part, device=values.device) if isinstance(part, list) else part
            for step in range(_length(part)):
                yield axis + step, part
            axis += _length(part)


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


_BY_DIM = ("gather", "index_add", "index_copy", "index_select", "scatter", "scatter_add")
_BY_DIM_IN_PLACE = ("index_add_", "index_copy_", "scatter_", "scatter_add_")
_PICKED: dict[Any, Callable[..., tuple[Tensor, Picked]]] = {
    **dict.fromkeys((Tensor.__getitem__, Tensor.__setitem__), _items),
    **dict.fromkeys((torch.take_along_dim, Tensor.take_along_dim), _take_along),
    **{getattr(torch, name): _along for name in _BY_DIM},
    **{getattr(Tensor, name): _along for name in _BY_DIM + _BY_DIM_IN_PLACE},
}
