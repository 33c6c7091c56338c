"""The cost model of the engine, in one place: which form answers a norm fastest, in what slices.

Counts are per sample, in multiply-adds and in numbers held; T is the number of positions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Gradients are formed this many numbers at a time: 64 MiB of float32, well inside a cache of
# activations.
_SLICE_NUMBERS = 2**24


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


def loop_pays(multiply_adds: int, device: torch.device) -> bool:
    """Whether a library call a sample beats one batched product over patches.

    A call costs about 50 us on a CPU, in which the patches of half a million products are
    multiplied; a GPU would wait for every launch.
    """
    return device.type == "cpu" and multiply_adds > 500_000


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


def form_in_slices(form: Callable[[slice], Tensor], size: int, gradient_numbers: int) -> Tensor:
    """``form`` over slices of the batch, joined: only one slice of gradients at a time."""
    step = max(1, _SLICE_NUMBERS // max(1, gradient_numbers))
    parts = [form(slice(start, start + step)) for start in range(0, size, step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
