"""What a release must be, to 120 digits, from the documented format of its bits alone.

Nothing of `dpfunc.noise` is called: the cipher is OpenSSL's, the numbers are mpmath's.
"""

import struct

import mpmath
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

import dpfunc as dp

GROUP, PAIRS, BLOCKS = 4096, 2048, 256


def block(key, counter, nonce=0):
    """One block of ChaCha20: 64 bytes."""
    start = counter.to_bytes(4, "little") + nonce.to_bytes(12, "little")
    cipher = Cipher(algorithms.ChaCha20(key.secret_bytes, start), mode=None)
    return cipher.encryptor().update(bytes(64))


def normal(key, item):
    """The standard normal of item ``item`` of the release that ``key`` is for."""
    group, place = divmod(item, GROUP)
    side, pair = divmod(place, PAIRS)
    row, column = divmod(pair, BLOCKS)
    words = struct.unpack("<16I", block(dp.fold_in(key, "words"), group * BLOCKS + column))
    radius, angle = words[row], words[row + 8]
    nonce, counter = divmod(group * PAIRS + pair, 2**32)
    further = struct.unpack("<8Q", block(dp.fold_in(key, "further bits"), counter, nonce))
    u = fraction(radius >> 1, 31, further[:4])
    quarter = fraction(angle % 2**30, 30, further[4:]) * mpmath.pi / 2
    sign = -1 if angle >> (30 if side else 31) & 1 else 1
    wave = mpmath.sin(quarter) if side else mpmath.cos(quarter)
    return sign * wave * mpmath.sqrt(-2 * mpmath.log(u))


def fraction(first, width, further):
    for word in further:
        first = first << 64 | word
    return (mpmath.mpf(first) + mpmath.mpf(0.5)) / mpmath.mpf(2) ** (width + 256)


def released(key, item, value, deviation, grid):
    """``grid * round((value + N) / grid)`` as a float: rounded once more only where it must be."""
    with mpmath.workdps(120):
        real = (mpmath.mpf(value) + mpmath.mpf(deviation) * normal(key, item)) / grid
        return float(mpmath.floor(real + mpmath.mpf(0.5)) * grid)
