"""Keys, bits and normals: the only place in dpfunc where randomness is made.

A `Key` is 256 secret bits. Every random value is a pure function of a key: there is no hidden
generator, no default seed, and no order in which things must be drawn. `fold_in` derives
independent keys for independent purposes.
"""

import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.chacha import keystream
from dpfunc.checks import is_count, require

_KEY_BYTES = 32
_BLOCK = 2**16  # pairs of normals that are made together: half a MiB of each intermediate


def key(seed: int | None = None) -> "Key":
    """A fresh key from the operating system, or, with ``seed``, the same key every time.

    Guarantee: without a seed, 256 bits of the operating system's entropy. A key made from a seed is
    exactly as secret as the seed: use one for tests and demonstrations, never to protect data.

    Raises ValueError for a negative seed, TypeError for one that is not an int.

    >>> key(7) == key(7), key() == key()
    (True, False)
    """
    if seed is None:
        return Key(secrets.token_bytes(_KEY_BYTES))
    require(
        isinstance(seed, int) and not isinstance(seed, bool),
        "key",
        "an int seed or None",
        seed,
        "use dpfunc.key() for a key from the operating system",
        error=TypeError,
    )
    require(seed >= 0, "key", "seed >= 0", seed, "use any non-negative int")
    # Any fixed public key will do here: the seed is all the secret there is.
    return fold_in(Key(b"dpfunc key made from a seed only"), "seed", seed)


def fold_in(key: "Key", *data: str | int) -> "Key":
    """An independent key for the purpose that ``data`` names.

    ``BLAKE2b(key, encode(data))``, a pseudo-random function of ``data`` (RFC 7693 section 2.9):
    keys for different ``data`` are independent as far as anyone without ``key`` can tell. The
    encoding is injective: each item carries its type and length, so ("ab",) differs from ("a",
    "b"), and 1 from "1".

    >>> k = key(0)
    >>> fold_in(k, "noise", 3) == fold_in(k, "noise", 3), fold_in(k, "noise", 3) == fold_in(k, 3)
    (True, False)
    """
    _require_key("fold_in", key)
    message = b"".join(_encode(item) for item in data)
    digest = hashlib.blake2b(
        message, key=key.secret_bytes, digest_size=_KEY_BYTES, person=b"dpfunc.fold_in"
    )
    return Key(digest.digest())


def bits(key: "Key", count: int, *, device: torch.device | str = "cpu") -> Tensor:
    """``count`` independent uniform 64-bit words, int64 ``[count]``: the key's ChaCha20 stream.

    The same key gives the same bits on every device. Use one key for one purpose: derive others
    with `fold_in`.

    >>> bits(key(0), 2).shape
    torch.Size([2])
    """
    _require_key("bits", key)
    require(is_count(count), "bits", "an int count >= 0", count, "pass how many words you need")
    return keystream(key.secret_bytes, 8 * count, device=torch.device(device)).view(torch.int64)


def normal(
    key: "Key",
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent standard normals of the given ``shape``: a pure function of ``key``.

    Box and Muller (1958) on the ChaCha20 stream, ``sqrt(-2 log u) cos(2 pi v)`` and its sine. The
    radius has 32 bits for float32 (``|z| <= 6.77``) and 53 bits for float64 (``|z| <= 8.66``); what
    lies beyond has probability below 2e-11 and 1e-17 a draw. Half precision is refused: draw in
    float32 and cast last.

    | case | result |
    |---|---|
    | a size of 0 in ``shape`` | an empty tensor |
    | ``shape == ()`` | one normal, no axis |
    | another dtype | ValueError |

    >>> normal(key(0), (2, 3)).shape
    torch.Size([2, 3])
    """
    require(
        dtype in (torch.float32, torch.float64),
        "normal",
        "dtype float32 or float64",
        dtype,
        "draw in float32 and cast the result",
    )
    count = math.prod(shape)
    pairs = -(-count // 2)
    if dtype == torch.float32:
        words = bits(key, pairs, device=device).view(torch.int32)
    else:
        words = bits(key, 2 * pairs, device=device)
    z = torch.empty(2 * pairs, dtype=dtype, device=words.device)
    for start, stop, block in _blocks(pairs, on_cpu=words.device.type == "cpu"):
        part = words[2 * start : 2 * stop].view(-1, 2, block)
        z[2 * start : 2 * stop] = _box_muller(part, dtype).flatten()
    return z[:count].reshape(tuple(shape))


def _blocks(pairs: int, *, on_cpu: bool) -> Iterator[tuple[int, int, int]]:
    """Runs of pairs and the block size within each: the same blocks on every device.

    A CPU takes them one at a time, while they are in its cache; other devices all at once.
    """
    full = pairs // _BLOCK * _BLOCK
    step = _BLOCK if on_cpu else max(full, 1)
    for start in range(0, full, step):
        yield start, start + step, _BLOCK
    if full < pairs:
        yield full, pairs, pairs - full


def _box_muller(words: Tensor, dtype: torch.dtype) -> Tensor:
    """``[..., 2, n]`` uniform words, for radius and angle, to ``[..., 2 n]`` normals."""
    radius_words, angle_words = words.unbind(-2)
    if dtype == torch.float32:
        # The radius in float64: a float32 cannot hold the uniforms near 0 that make the tail.
        uniform = radius_words.to(torch.float64).add_(2.0**31 + 0.5).mul_(2.0**-32)  # in (0, 1)
        angle = angle_words.to(dtype).mul_(math.pi * 2.0**-31)
    else:
        uniform = ((radius_words >> 11) & (2**53 - 1)).to(dtype).add_(0.5).mul_(2.0**-53)
        angle = angle_words.to(dtype).mul_(math.pi * 2.0**-63)
    radius = uniform.log_().mul_(-2.0).to(dtype).sqrt_()
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], -1)


def _require_key(subject: str, value: object) -> None:
    require(
        isinstance(value, Key),
        subject,
        "a dpfunc.Key",
        type(value).__name__,
        "make one with dpfunc.key()",
        error=TypeError,
    )


def _encode(item: str | int) -> bytes:
    """Type tag, length, payload: no two sequences of items encode alike."""
    require(
        isinstance(item, str | int) and not isinstance(item, bool),
        "fold_in",
        "strings and ints",
        item,
        "name the purpose with strings and count with ints",
        error=TypeError,
    )
    if isinstance(item, str):
        tag, payload = b"s", item.encode()
    else:
        tag, payload = b"i", str(item).encode()
    return tag + len(payload).to_bytes(8, "little") + payload


@dataclass(frozen=True)
class Key:
    """256 secret bits. Printing it shows nothing; make one with `key`, derive others by `fold_in`.

    ``secret_bytes`` is the secret itself: store it as you would store a password.
    """

    secret_bytes: bytes

    def __post_init__(self) -> None:
        size = len(self.secret_bytes) if isinstance(self.secret_bytes, bytes) else None
        require(size == _KEY_BYTES, "Key", "32 secret bytes", f"{size} bytes", "use dpfunc.key()")

    def __repr__(self) -> str:
        return "Key(<secret>)"
