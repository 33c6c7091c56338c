"""Permutations, subsets of a fixed size, indices: exactly uniform, pure functions of a key."""

import torch
from torch import Tensor

from dpfunc.checks import is_count, require
from dpfunc.random.keys import Key, bits, fold_in, require_key


def permutation(key: Key, size: int, *, device: torch.device | str = "cpu") -> Tensor:
    """A uniformly random order of ``range(size)``: int64 ``[size]``.

    The order of 64-bit words. Where two are equal, as happens with probability below ``size**2 /
    2**65``, all are drawn again, so that every order is exactly as likely.

    | case | result |
    |---|---|
    | ``size`` 0, 1 | an empty tensor, ``[0]`` |
    | not a count | ValueError |

    >>> from dpfunc.random.keys import key
    >>> permutation(key(0), 5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    require_key("permutation", key)
    require(is_count(size), "permutation", "an int size >= 0", size, "pass how many there are")
    attempt = 0
    while True:
        words, order = bits(fold_in(key, "attempt", attempt), size, device=device).sort()
        if words.device.type == "meta" or bool((words[1:] != words[:-1]).all()):
            return order
        attempt += 1


def subset(key: Key, size: int, *, count: int, device: torch.device | str = "cpu") -> Tensor:
    """A uniformly random subset of ``range(size)`` with ``count`` members: int64, ascending.

    Each member has the same chance ``count / size``, but they are not independent: this is sampling
    without replacement, whose amplification differs from that of `sampling.poisson`.

    | case | result |
    |---|---|
    | ``count`` 0, ``size`` | an empty tensor, all of them |
    | ``count > size`` | ValueError |

    >>> from dpfunc.random.keys import key
    >>> subset(key(0), 5, count=5)
    tensor([0, 1, 2, 3, 4])
    """
    require_key("subset", key)
    require(is_count(size), "subset", "an int size >= 0", size, "pass how many there are")
    require(
        is_count(count) and count <= size,
        "subset",
        f"an int count between 0 and {size}",
        count,
        "pass how many to choose",
    )
    return permutation(key, size, device=device)[:count].sort().values


def uniform_index(key: Key, size: int, *, below: int) -> Tensor:
    """``size`` independent indices from 0 to ``below - 1``, exactly uniform: int64 ``[size]``.

    Words of 63 bits modulo ``below``; the few words at the end that would make small indices
    likelier are drawn again. Index i is made of word i: more of them leave the first as they were.

    >>> from dpfunc.random.keys import key
    >>> bool((uniform_index(key(0), 1000, below=3) < 3).all())
    True
    """
    require(is_count(size), "uniform_index", "an int size >= 0", size, "pass how many to draw")
    require(
        is_count(below) and 1 <= below < 2**62,
        "uniform_index",
        "an int below >= 1",
        below,
        "pass how many there are to choose from",
    )
    most = 2**63 // below * below
    words = bits(fold_in(key, "attempt", 0), size).bitwise_and_(2**63 - 1)
    attempt = 0
    while most <= 2**63 - 1 and bool((words >= most).any()):
        attempt += 1
        again = bits(fold_in(key, "attempt", attempt), size).bitwise_and_(2**63 - 1)
        words = torch.where(words >= most, again, words)
    return words.remainder_(below)
