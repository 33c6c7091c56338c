"""A sum released on a lattice: noise that floating point cannot give away.

The low bits of the float ``value + noise`` betray the value (Mironov 2012, CCS, section 3; Jin,
McMurtry, Rubinstein and Ohrimenko 2022, arXiv:2112.05307). Here ``grid * round((S + N) / grid)`` is
released, S the sum and N real Gaussian noise, correctly rounded. Whatever floats S consists of,
that is a function of the real number ``S + N``: post-processing of the Gaussian mechanism on S.
Every analysis of the Gaussian mechanism holds for it as it is, sampled or not, with nothing to add
to delta or to the sensitivity.
"""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from traceback import clear_frames

import torch
from torch import Tensor

from dpfunc.checks import is_count, require
from dpfunc.noise.kernels import by_numba, by_triton
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.flat import DTYPES, Piece, Release, starts_of
from dpfunc.noise.kernels.format import MOST_ITEMS, streams
from dpfunc.random.keys import Key
from dpfunc.types import Summed, Tensors

_FLOATS = 2.0**-10  # of the bound: what the float arithmetic of a sum may add to its sensitivity
_STEPS = 2.0**-6  # a grid is at most this share of the deviation, and more than half of it
_GRIDS = (2.0**-120, 2.0**100)


def spacing(deviation: float) -> float:
    """The grid for noise of this deviation: a power of two, at most ``2**-6 deviation``.

    It is more than half of that, and depends on public numbers alone. Rounding to it adds less than
    ``2**-15`` of the variance. ValueError for a grid outside of 2**-120 to 2**100: its inverse and
    its multiples must be ordinary float32 numbers on every device.

    >>> spacing(1.5) == 2.0**-6
    True
    """
    _, exponent = math.frexp(deviation) if math.isfinite(deviation) else (0.0, 2**12)
    grid = math.ldexp(_STEPS, min(exponent - 1, 2**9))
    require(
        deviation > 0 and _GRIDS[0] <= grid <= _GRIDS[1],
        "GaussianNoise",
        "noise of a standard deviation between 2**-114 and 2**106",
        deviation,
        "clip to a max_norm in the range of float32",
    )
    return grid


def widened(bound: float) -> float:
    """The L2 sensitivity of a sum as it was computed: ``(1 + 2**-10) bound``.

    In real numbers the sums of neighbouring data sets are at most the bound apart. The ``2**-10
    bound`` are for the float arithmetic of either sum: docs/randomness.md says for which settings
    that is proven, and what is only measured for the others.

    >>> widened(1.0) == 1 + 2.0**-10
    True
    """
    return bound * (1 + _FLOATS)


def require_sum(subject: str, summed: Summed) -> None:
    """TypeError unless it is a `Summed` of real floating-point numbers, for a noise mechanism."""
    require(
        isinstance(summed, Summed),
        subject,
        "a Summed, whose bound sets the scale of the noise",
        type(summed).__name__,
        "pass the result of dpfunc.weighted_sum(grads, weights)",
        error=TypeError,
    )
    strange = {n: v.dtype for n, v in summed.values.items() if not v.is_floating_point()}
    require(
        not strange,
        subject,
        "sums of real floating-point numbers",
        strange,
        "give the real and the imaginary part to it as two real numbers (torch.view_as_real), or "
        "cast whole numbers to float",
        error=TypeError,
    )


def release(values: Mapping[str, Tensor], key: Key, *, deviation: float) -> Tensors:
    """``grid * round((values + N) / grid)``, ``N`` normal with this deviation, all at once.

    The names in order, without gaps, are one row of items (`starts_of`); what is added to an item
    depends on the key and its place alone. See `release_`.

    >>> from dpfunc.random.keys import key
    >>> noisy = release({"w": torch.zeros(4)}, key(0), deviation=1.0)["w"]
    >>> bool((noisy % 2.0**-6 == 0).all())
    True
    """
    copies = {name: copied(value) for name, value in values.items()}
    return release_(copies, key, deviation=deviation)


def release_(
    values: Mapping[str, Tensor],
    key: Key,
    *,
    deviation: float,
    starts: Mapping[str, int] | None = None,
) -> Tensors:
    """`release` in the memory of ``values`` where it can be: afterwards no sum is left in them.

    Guarantee: with ``deviation = noise_multiplier * widened(bound)``, the Gaussian mechanism of
    that noise multiplier, post-processed. Of the shapes and dtypes of ``values``, at least float32.
    The same bits on every device and by every kernel: what is rounded correctly leaves no room for
    another, and a zero has no sign. How long it takes depends on ``values + N``; time is outside
    of the guarantee.

    NaN and infinite sums stay what they are, and one beyond ``2**128`` grids may become infinite.

    ``starts``: where each value begins in the row of items, without overlap; values that are part
    of a larger row get the numbers that they would get there. ``key`` must serve no other purpose.

    Where the arguments are refused, nothing has changed. Afterwards, also after an error or an
    interrupt, ``values`` hold what was released or zeros: no part of the sum and no part of noise
    that was not released.
    """
    grid = spacing(deviation)
    sizes = {name: value.numel() for name, value in values.items()}
    starts = starts_of(sizes) if starts is None else starts
    _require_apart(sizes, starts)
    keys, own = streams(key), dict(values)
    try:
        own = _with_own_memory(values)
        pieces = [Piece(own[name].view(-1), starts[name]) for name in own if sizes[name] > 0]
        for device in {piece.items.device for piece in pieces}:
            here = [piece for piece in pieces if piece.items.device == device]
            kernel_for(device)(here, keys, deviation / grid, grid)
    except BaseException as error:
        _wipe([*own.values(), *values.values()])
        clear_frames(error.__traceback__)  # what the kernels had in their hands
        raise
    _wipe([value for name, value in values.items() if own[name] is not value])
    return own


def kernel_for(device: torch.device) -> Release:
    """The fastest way to release on a device; all of them give the same numbers."""
    if device.type == "cpu" and by_numba.available():
        return by_numba.release_by_numba
    if device.type == "cuda" and by_triton.refusal(device) is None:
        return by_triton.release_by_triton
    return release_by_torch


def explain_noise(device: torch.device | str = "cpu") -> str:
    """In one sentence: which kernel makes the noise on ``device``, and how to get a faster one.

    >>> explain_noise("meta")
    'torch operations release on meta: the same numbers everywhere.'
    """
    place = torch.device(device)
    if kernel_for(place) is by_numba.release_by_numba:
        return "A kernel compiled by numba releases on cpu: the numbers of every other kernel."
    if place.type == "cpu":
        return (
            'torch operations release on cpu; pip install "dpfunc[fast]" takes a fraction of the '
            "time, with the same numbers."
        )
    if kernel_for(place) is by_triton.release_by_triton:
        return f"A Triton kernel releases on {place}: the numbers of every other kernel."
    reason = f" The Triton kernel does not: {by_triton.refusal(place)}." * (place.type == "cuda")
    return f"torch operations release on {place}: the same numbers everywhere.{reason}"


def _with_own_memory(values: Mapping[str, Tensor]) -> Tensors:
    """The tensors that are released to: those given, or a copy where the memory is not their own.

    It has to be in the order of the items, of at least single precision, and nobody else's: what
    else is in it would be saved along with the release.
    """
    storages = {name: value.untyped_storage() for name, value in values.items()}
    shared = Counter((storage.device, storage.data_ptr()) for storage in storages.values())
    own = {}
    for name, value in values.items():
        storage = storages[name]
        fits = (
            value.dtype in DTYPES
            and value.is_contiguous()
            and storage.nbytes() == value.numel() * value.itemsize
            and shared[storage.device, storage.data_ptr()] == 1
            and not value.requires_grad
            and not value.is_inference()
        )
        own[name] = value if fits else copied(value)
    return own


def _wipe(values: list[Tensor]) -> None:
    """Zeros in all of them, whatever interrupts come."""
    for value in values:
        while True:
            try:
                with torch.inference_mode(value.is_inference()):
                    value.detach().zero_()
                break
            except KeyboardInterrupt:
                continue  # the one that is under way is raised


def _require_apart(sizes: Mapping[str, int], starts: Mapping[str, int]) -> None:
    """Whole numbers, in the row, and no item of two values: it would have the same noise twice."""
    places = sorted((starts[name], starts[name] + size) for name, size in sizes.items() if size)
    require(
        all(is_count(starts[name]) for name in sizes)
        and all(end <= begin for (_, end), (begin, _) in pairwise(places)),
        "GaussianNoise",
        "whole numbers of places >= 0 that do not overlap",
        {name: (starts[name], size) for name, size in sizes.items()},
        "give each value the place where it begins in the row of all parameters",
    )
    last = max((end for _, end in places), default=0)
    require(
        last <= MOST_ITEMS,
        "GaussianNoise",
        f"at most {MOST_ITEMS} numbers in a release",
        last,
        "release fewer at a time: a key's cipher has no more words",
    )


def copied(value: Tensor) -> Tensor:
    """A copy in the order of the items, at least float32."""
    kind = torch.promote_types(value.dtype, torch.float32)
    return value.detach().to(kind, memory_format=torch.contiguous_format, copy=True)
