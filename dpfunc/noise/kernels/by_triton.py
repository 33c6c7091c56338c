"""A release by one Triton kernel, on a CUDA device: the numbers of `by_torch.py`, sooner.

The CUDA builds of torch bring Triton. The kernel is compiled at its first use, and has to give
known answers then. The device decides nearly everything; the host waits once a release, for one
number: how many pairs are left for it.
"""

import struct
import warnings
from functools import cache, lru_cache
from importlib import import_module
from itertools import accumulate

import torch
from torch import Tensor

from dpfunc.noise.kernels import by_torch
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.flat import DTYPES, Piece
from dpfunc.noise.kernels.format import BLOCKS, GROUP, Streams, streams
from dpfunc.noise.kernels.listed import COLUMNS, ROOM, finish, require_room
from dpfunc.random import chacha_triton
from dpfunc.random.chacha import initial_words
from dpfunc.random.keys import Key, key

LANES = 32
"""Blocks of the cipher in a program: one warp. A doubtful pair holds up its own program alone.

One for each thread: a thread without a block of its own would read what another has written."""

EXACT = {"enable_fp_fusion": False, "enable_reflect_ftz": False}
"""How the kernel is compiled: every operation is rounded as it is written, and nothing is zero
that is not."""

_BITS_OF_NORMALS = 6955116810485874162
"""`normals_digest` of the kernel of numba, to whose bits docs/randomness.md proves the bound."""


@cache
def refusal(device: torch.device) -> str | None:
    """Why the kernel does not serve a device; None where it does. At first use, it is tested."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return "it needs a CUDA device"
    if not chacha_triton.available(device):
        return "Triton is not installed"
    if torch.version.hip is not None:
        return "it is for NVIDIA's devices"
    try:
        wrong = _wrong(device)
    except Exception as error:  # of a compiler: torch operations release then, and the user is told
        wrong = f"it failed with {type(error).__name__}: {error}"
    if wrong is not None:
        warnings.warn(
            f"dpfunc: the Triton kernel does not release on {device}: {wrong}. Torch operations "
            "do, with the same numbers; please report it.",
            RuntimeWarning,
            stacklevel=2,
        )
    return wrong


def release_by_triton(pieces: list[Piece], keys: Streams, scale: float, grid: float) -> None:
    """Release the items of ``pieces``, all on one device, in place: see `release_`."""
    pieces = [piece for piece in pieces if piece.items.numel() > 0]
    if not pieces:
        return
    device = pieces[0].items.device
    # One count and one table for all dtypes: the host waits once.
    count = torch.zeros(1, dtype=torch.int32, device=device)
    listed = torch.empty((ROOM, COLUMNS + 1), dtype=torch.float64, device=device)
    started: list[Piece] = []
    for dtype in DTYPES:
        own = [piece for piece in pieces if piece.items.dtype == dtype]
        if own:
            _start(own, len(started), count, listed, keys, scale, grid)
            started += own
    _finish(int(count), listed, started, keys, scale, grid)


def _start(
    pieces: list[Piece],
    first_piece: int,
    count: Tensor,
    listed: Tensor,
    keys: Streams,
    scale: float,
    grid: float,
) -> None:
    """The kernel for pieces of one dtype, of which the first is number ``first_piece`` of all."""
    kernel = import_module("dpfunc.noise.kernels.triton_kernel")
    programs = [_programs(piece) for piece in pieces]
    places = tuple((p.items.data_ptr(), p.start, p.items.numel()) for p in pieces)
    firsts = tuple(accumulate(programs, initial=0))[:-1]
    (scale_bits,) = struct.unpack("<q", struct.pack("<d", scale))  # a float would be a float32
    small, large = (2.0**-24 * scale * factor for factor in by_torch.BOUND)
    with torch.cuda.device_of(count):  # Triton starts kernels on the current device
        kernel.release_pieces[(sum(programs),)](
            _table(places, firsts, count.device, _stream(count.device)),
            len(pieces),
            first_piece,
            count,
            listed,
            scale_bits,
            1 / grid,
            grid,
            small,
            large,
            *_key_words(keys.words),
            *_key_words(keys.further),
            kind=kernel.kind_of(pieces[0].items.dtype),
            lanes=LANES,
            num_warps=max(1, LANES // 32),
            **EXACT,
        )


def _finish(
    count: int, listed: Tensor, pieces: list[Piece], keys: Streams, scale: float, grid: float
) -> None:
    """Decide what is listed, each pair for the one piece that listed it."""
    require_room(count, ROOM, "Triton")
    if count > 0:
        for row in listed[:count].cpu().numpy():
            finish(row[None, :COLUMNS], [pieces[int(row[COLUMNS])]], keys, scale, grid)


def _programs(piece: Piece) -> int:
    """How many programs of the kernel a piece has: for the blocks of all groups that it is in."""
    groups = -(-piece.stop // GROUP) - piece.start // GROUP
    return -(-groups * BLOCKS // LANES)


def _key_words(key: Key) -> list[int]:
    """The eight words of a key, as Triton takes numbers of 32 bits."""
    words = initial_words(key.secret_bytes, bytes(12))[4:12]
    return [word - 2**32 if word >= 2**31 else word for word in words]


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


@lru_cache(maxsize=16)
def _table(
    pieces: tuple[tuple[int, int, int], ...],
    firsts: tuple[int, ...],
    device: torch.device,
    stream: int,
) -> Tensor:
    """Where the pieces are, for the kernel: see there. Kept, as a steady step has the same again.

    ``stream``: whose order makes the copy complete before it is read. Nobody waits for it.
    """
    del stream
    columns = [*zip(*pieces, strict=True), firsts]
    table = torch.tensor(columns, dtype=torch.int64)
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table


def normals_digest(device: torch.device) -> int:
    """One number out of all bits that the kernel computes from 65,538 words by single precision."""
    kernel = import_module("dpfunc.noise.kernels.triton_kernel")
    words = torch.arange(0, 2**32, 2**16 - 1).to(torch.int32).to(device)
    out = torch.empty((4, len(words)), dtype=torch.float32, device=device)
    with torch.cuda.device_of(out):
        kernel.polar_of[(-(-len(words) // 1024),)](
            words, words, out, len(words), lanes=1024, **EXACT
        )
    return digest(out.cpu())


def digest(normals: Tensor) -> int:
    """One number out of all bits of float32 numbers and their places."""
    bits = normals.view(torch.int32).flatten().to(torch.int64)
    return int((bits * torch.arange(1, 1 + len(bits))).sum())  # which wraps around


def _wrong(device: torch.device) -> str | None:
    """Known answers: a kernel is compiled where it runs, so it is tested there."""
    if normals_digest(device) != _BITS_OF_NORMALS:
        return "its normals have other bits than those that the error bound is proven for"
    keys = streams(key(0))
    for dtype in DTYPES:
        for scale, grid in ((64.0, 2.0**-8), (127.9, 2.0**20), (3e5, 2.0**-18)):
            known = torch.linspace(-3, 3, 3 * GROUP + 5, dtype=dtype) * grid
            ours = known.to(device, copy=True)
            release_by_triton([Piece(ours[:7], 100), Piece(ours[7:], 107)], keys, scale, grid)
            release_by_torch([Piece(known, 100)], keys, scale, grid)
            if not torch.equal(ours.cpu().view(torch.uint8), known.view(torch.uint8)):
                return f"it releases other numbers in {dtype}"
    return None
