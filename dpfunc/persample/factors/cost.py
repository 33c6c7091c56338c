"""The cost model of the engine, in one place: which form answers a norm fastest, in what slices.

Counts are per sample, in multiply-adds and in numbers held; T is the number of positions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dpfunc.persample.batches.batch import slices
from dpfunc.persample.batches.shapes import have_numbers

# What is formed only to be summed up is formed this many numbers at a time. In 2 MiB of float32 a
# CPU uses memory again that is still in its cache; 64 MiB are few launches for a GPU, and little
# beside the activations.
_CPU_SLICE = 2**19
_DEVICE_SLICE = 2**24


def prefers_gram(positions: int, rows: int, columns: int) -> bool:
    """Whether two ``T x T`` Gram matrices cost less than one ``rows x columns`` gradient."""
    return positions * (rows + columns) < rows * columns


def prefers_pixel_gram(positions: int, pixels: int, rows: int, kernel: tuple[int, ...]) -> bool:
    """The same for a convolution, whose Gram matrix of patches is summed up from that of pixels.

    ``kernel``: its channels and its lengths. A sum costs about as much as four multiply-adds.
    """
    channels, *lengths = kernel
    sums = 4 * sum(lengths) * pixels * pixels
    gram = positions * positions * rows + pixels * pixels * channels + sums
    return gram < positions * rows * math.prod(kernel)


def prefers_groups(
    channels: int, step: tuple[int, ...], groups: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether the samples become groups of channels of one image, for PyTorch's own convolution.

    In float32 on a CPU, oneDNN then forms gradients nearly as fast as it sums them over the batch,
    two to five times as fast as products with patches; but for few channels, or odd numbers of
    them, at every pixel. ``channels``: of a group; ``step``: how many pixels windows are apart.
    """
    by_onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()
    suits = groups > 1 or max(step) > 1 or channels % 8 == 0 or channels > 16
    return by_onednn and dtype == torch.float32 and suits


def prefers_shifts(channels: int, positions: int, rows: int) -> bool:
    """Whether a convolution takes one product for each offset of its kernel, and copies no patches.

    Copying a patch costs as much as some thirty rows of a product with it; a product with few
    columns or little work costs more than the copy.
    """
    return channels >= 16 and channels * positions * rows >= 2**16


def worth_forming(gradient_numbers: int, held_numbers: int) -> bool:
    """Whether to form a gradient at once, which saves the second pass of its weighted sum.

    The factors it replaces are then let go; twice their size is still less than what the rest of a
    network keeps for its backward pass.
    """
    return gradient_numbers <= 2 * held_numbers


def samples_of_a_product(positions: int, width: int, device: torch.device) -> int:
    """How many samples to copy at a time on the way into one matrix product over the batch.

    A CPU pays for fresh memory page by page, so that copies of a few MiB, used again and again,
    cost half as much as copies of a whole batch; below some hundred positions products slow down.
    """
    numbers = 2**20 if device.type == "cpu" else 2**26
    return max(1, numbers // max(1, positions * width), -(-512 // max(1, positions)))


def steps_at_once(step_numbers: int, device: torch.device) -> int:
    """How many steps of a recurrence to prepare together, each of ``step_numbers`` numbers.

    A CPU does so fastest in its cache; a GPU in as few launches as memory allows.
    """
    numbers = 2**17 if device.type == "cpu" else 2**24
    return max(1, numbers // max(1, step_numbers))


def slices_of(of: Tensor, numbers: int) -> list[slice]:
    """Slices of the samples of ``of``, at least one; a sample takes so many ``numbers``."""
    in_cache = of.device.type == "cpu" and have_numbers(of)  # a graph is not to be unrolled
    return slices(len(of), max(1, (_CPU_SLICE if in_cache else _DEVICE_SLICE) // max(1, numbers)))


def form_in_slices(form: Callable[[slice], Tensor], of: Tensor, numbers: int) -> Tensor:
    """``form`` over slices of the samples of ``of``, joined; a sample takes so many ``numbers``."""
    first, *others = slices_of(of, numbers)
    part = form(first)
    if not others:
        return part
    order = [0, *axes_in_memory_order(part)]  # in which joining is a plain copy
    joined = part.new_empty((len(of), *(part.shape[axis] for axis in order[1:])))
    joined[first] = part.permute(order)
    for where in others:
        joined[where] = form(where).permute(order)
    return joined.permute([order.index(axis) for axis in range(len(order))])


def axes_in_memory_order(values: Tensor) -> list[int]:
    """All axes but that of samples, as they lie in memory: in that order a pass is fastest."""
    return sorted(range(1, values.dim()), key=values.stride, reverse=True)
