"""Permutations and subsets of a fixed size, exactly uniform, each a pure function of a key."""

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
