"""Keys and bits: the only place in dpfunc where randomness is made.

A `Key` is 256 secret bits. Every random value is a pure function of a key: there is no hidden
generator, no default seed, and no order in which things must be drawn. `fold_in` derives
independent keys for independent purposes.
"""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.checks import is_count, plain, require
from dpfunc.random.chacha import keystream

_KEY_BYTES = 32
_BLOCK_WORDS = 8  # of 64 bits, in a block of the cipher
_CPU_RUN = 2**16  # half a MiB of each float64 intermediate
_DEVICE_RUN = 2**24


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
    require_key("fold_in", key)
    message = b"".join(_encode(item) for item in data)
    digest = hashlib.blake2b(
        message, key=key.secret_bytes, digest_size=_KEY_BYTES, person=b"dpfunc.fold_in"
    )
    return Key(digest.digest())


def bits(key: "Key", count: int, *, device: torch.device | str = "cpu", start: int = 0) -> Tensor:
    """``count`` independent uniform 64-bit words, int64 ``[count]``: the key's ChaCha20 stream.

    The same key gives the same bits on every device. ``start`` skips words, a multiple of 8, so
    that a stream can be read in parts. Use one key for one purpose: derive others with `fold_in`.

    >>> import torch
    >>> whole = bits(key(0), 20)
    >>> torch.equal(bits(key(0), 4, start=16), whole[16:])
    True
    """
    require_key("bits", key)
    count, start = plain(count), plain(start)
    require(is_count(count), "bits", "an int count >= 0", count, "pass how many words you need")
    require(
        is_count(start) and start % _BLOCK_WORDS == 0,
        "bits",
        f"a start that is a multiple of {_BLOCK_WORDS}",
        start,
        "begin at a block of the cipher",
    )
    stream = keystream(
        key.secret_bytes,
        8 * count,
        device=torch.device(device),
        first_block=start // _BLOCK_WORDS,
    )
    return stream.view(torch.int64)


def runs(count: int, device: torch.device) -> Iterator[slice]:
    """``range(count)`` in runs to be worked on together, each beginning at a multiple of 2**16.

    A CPU that takes several passes over a run goes faster when the run is still in its cache; on
    other devices long runs are better. Values must not depend on the runs: word ``i`` of a stream
    belongs to item ``i``.
    """
    step = _CPU_RUN if device.type == "cpu" else _DEVICE_RUN
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def require_key(subject: str, value: object) -> None:
    """TypeError unless ``value`` is a `Key`."""
    require(
        isinstance(value, Key),
        subject,
        "a dpfunc.Key",
        type(value).__name__,
        "make one with dpfunc.key()",
        error=TypeError,
    )


def _encode(item: str | int) -> bytes:
    """Type tag, length, payload: no two sequences of items encode alike; equal ints do."""
    item = item if isinstance(item, str) else plain(item)
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
