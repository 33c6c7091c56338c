"""The ChaCha20 block function (RFC 8439): a 32-byte key in, a keystream tensor out, on any device.

On the CPU the keystream comes from OpenSSL through ``cryptography``, on CUDA devices from a Triton
kernel where Triton is installed, and everywhere else from the same cipher in torch integer
operations. One key gives the same bits everywhere.
"""

import struct
from collections.abc import Callable
from functools import cache

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from torch import Tensor

from dpfunc.random import chacha_triton

_CONSTANTS = b"expand 32-byte k"
_BLOCK_BYTES = 64
_ZEROS = memoryview(bytes(2**20))  # what is enciphered, a cache of it at a time
_MAX_BLOCKS = 2**32  # the block counter of RFC 8439 has 32 bits


def keystream(
    key: bytes,
    size: int,
    *,
    device: torch.device,
    nonce: bytes = bytes(12),
    first_block: int = 0,
) -> Tensor:
    """``size`` bytes of the ChaCha20 keystream from block ``first_block`` on: uint8 ``[size]``.

    A block is 64 bytes. A (key, nonce) pair must serve one purpose only. Raises ValueError past
    2**32 blocks (256 GiB), where the counter would begin again.
    """
    if first_block * _BLOCK_BYTES + size > _MAX_BLOCKS * _BLOCK_BYTES:
        raise ValueError(
            f"keystream: {size} bytes from block {first_block} exceed the 256 GiB of one key."
        )
    return _backend(device)(key, size, device=device, nonce=nonce, first_block=first_block)


def _backend(device: torch.device) -> Callable[..., Tensor]:
    """The fastest cipher for the device: all of them give the same bits."""
    if device.type == "cpu":
        return _openssl_keystream
    if chacha_triton.available(device):
        _check_triton(device)
        return triton_keystream
    return torch_keystream


@cache
def _check_triton(device: torch.device) -> None:
    """Known answers, once a device: a kernel is compiled where it runs, so it is tested there."""
    key, nonce, size = bytes(range(32)), bytes(range(12)), _BLOCK_BYTES * 1000 + 3
    for first in (0, 2**31 - 500, _MAX_BLOCKS - 1001):
        known = _openssl_keystream(
            key, size, device=torch.device("cpu"), nonce=nonce, first_block=first
        )
        ours = triton_keystream(key, size, device=device, nonce=nonce, first_block=first)
        if not torch.equal(ours.cpu(), known):
            raise RuntimeError(f"ChaCha20: the Triton kernel is wrong on {device}; do not use it.")


def _openssl_keystream(
    key: bytes, size: int, *, device: torch.device, nonce: bytes, first_block: int
) -> Tensor:
    if size == 0:
        return torch.empty(0, dtype=torch.uint8, device=device)
    counter = first_block.to_bytes(4, "little")
    encryptor = Cipher(algorithms.ChaCha20(key, counter + nonce), mode=None).encryptor()
    stream = torch.empty(size, dtype=torch.uint8, device=device)
    view = stream.numpy().data
    for start in range(0, size, len(_ZEROS)):
        part = view[start : start + len(_ZEROS)]
        encryptor.update_into(_ZEROS[: len(part)], part)
    return stream


def torch_keystream(
    key: bytes,
    size: int,
    *,
    device: torch.device,
    nonce: bytes = bytes(12),
    first_block: int = 0,
) -> Tensor:
    """The same bytes from torch int32 operations, which wrap around as the cipher wants."""
    blocks = -(-size // _BLOCK_BYTES)
    start = _initial_state(key, nonce, device).view(4, 4, 1).repeat(1, 1, blocks)
    counters = torch.arange(first_block, first_block + blocks, device=device)
    start[3, 0] = counters.to(torch.int32)  # a counter past 2**31 wraps around, as it should
    rows = start.unbind(0)  # four rows of four words: [column, block]
    for _ in range(10):  # 20 rounds: a column round and a diagonal round each
        rows = _quarter_rounds(*rows)
        a, b, c, d = rows
        rows = _quarter_rounds(a, b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0))
        a, b, c, d = rows
        rows = (a, b.roll(1, 0), c.roll(2, 0), d.roll(3, 0))
    mixed = torch.stack(rows) + start
    return mixed.permute(2, 0, 1).reshape(-1).view(torch.uint8)[:size]


def triton_keystream(
    key: bytes,
    size: int,
    *,
    device: torch.device,
    nonce: bytes = bytes(12),
    first_block: int = 0,
) -> Tensor:
    """The same bytes from one kernel."""
    blocks = -(-size // _BLOCK_BYTES)
    stream = torch.empty(blocks * 16, dtype=torch.int32, device=device)
    if blocks > 0:
        chacha_triton.fill(stream, _initial_state(key, nonce, device), first_block)
    return stream.view(torch.uint8)[:size]


def initial_words(key: bytes, nonce: bytes) -> list[int]:
    """The 16 words of RFC 8439 section 2.3: constants, key, counter 0, nonce; 0 to 2**32 - 1."""
    return [*struct.unpack("<12I", _CONSTANTS + key), 0, *struct.unpack("<3I", nonce)]


def _initial_state(key: bytes, nonce: bytes, device: torch.device) -> Tensor:
    """The same as int32 ``[16]``."""
    return torch.tensor(initial_words(key, nonce)).to(torch.int32).to(device)


def _quarter_rounds(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    """RFC 8439 section 2.1 on four columns (or diagonals) at once."""
    a = a + b
    d = _rotate_left(d ^ a, 16)
    c = c + d
    b = _rotate_left(b ^ c, 12)
    a = a + b
    d = _rotate_left(d ^ a, 8)
    c = c + d
    b = _rotate_left(b ^ c, 7)
    return a, b, c, d


def _rotate_left(word: Tensor, count: int) -> Tensor:
    # The shift right of a signed word copies its sign bit: mask those copies off.
    return (word << count) | ((word >> (32 - count)) & ((1 << count) - 1))
