"""Poisson sampling: which records take part in a step, as indices and a mask."""

import math
from collections.abc import Iterator

import scipy
import torch
from torch import Tensor

from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.random.discrete import decided
from dpfunc.random.keys import Key, bits, fold_in, require_key

_BLOCK = 8  # records whose coins are in one block of the cipher
_RUN = 2**16  # coins at a time, in a cache


def poisson(
    key: Key,
    step: int,
    *,
    size: int,
    rate: float,
    pad_to: int | None = None,
    part: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Choose each of ``size`` records independently with probability ``rate``: indices and mask.

    Returns ``indices`` (int64 ``[M]``, ascending, on ``device``) and ``mask`` (bool ``[M]``).
    Without ``pad_to``, M is the number drawn and the mask is all True. With it, M is ``pad_to``:
    the rest is filled up with index 0 and mask False, so that every batch has one shape.
    With ``part=(i, n)`` only the records of shard i of n come (`shard_of`): the n parts of a step
    are disjoint, and together they are what comes without ``part``.

    Guarantee: the sampling that amplification by Poisson subsampling assumes (Abadi et al. 2016;
    Zhu and Wang 2019). Each record has a 64-bit coin of its own: the inclusion probability is
    ``rate`` rounded down to a multiple of 2**-64, and adding a record leaves the coins of the
    others as they were. A pure function of (key, step): steps are independent. The key is as secret
    as the noise's: who knows which records took part loses the amplification.

    | case | result |
    |---|---|
    | no record drawn | M = 0 (or all padding): still take the step, noise alone is released |
    | ``rate == 0``, ``rate == 1`` | no record, every record |
    | more drawn than ``pad_to`` | ValueError: dropping some would void the guarantee |

    >>> import dpfunc as dp
    >>> indices, mask = poisson(dp.key(0), step=0, size=1000, rate=0.1, pad_to=160)
    >>> indices.shape, mask.shape
    (torch.Size([160]), torch.Size([160]))
    """
    size, rate, step, pad_to = map(plain, (size, rate, step, pad_to))
    _require_rate("poisson", size, rate)
    require_key("poisson", key)
    require(is_count(step), "poisson", "an int step >= 0", step, "count your steps from 0")
    shard, shards = (0, 1) if part is None else _require_part(part)
    coins = fold_in(key, "poisson sampling", step)
    indices = torch.cat(list(_drawn_in_runs(coins, size, rate, shard, shards)))
    count = indices.shape[0]
    mask = torch.ones_like(indices, dtype=torch.bool)
    if pad_to is not None:
        require(
            is_count(pad_to) and count <= pad_to,
            "poisson",
            f"pad_to >= {count}, the records drawn at step {step}",
            pad_to,
            f"pad to {padded_size(size=size, rate=rate)}, from dpfunc.sampling.padded_size",
        )
        indices = torch.nn.functional.pad(indices, (0, pad_to - count))
        mask = torch.nn.functional.pad(mask, (0, pad_to - count))
    return indices.to(device), mask.to(device)


def padded_size(*, size: int, rate: float, overflow_probability: float = 1e-12) -> int:
    """The smallest ``pad_to`` that a step exceeds with at most ``overflow_probability``.

    The quantile of Binomial(size, rate). Multiply your number of steps by the probability for the
    chance that a run ever stops with the error of `poisson`.

    >>> padded_size(size=60_000, rate=256 / 60_000)
    376
    """
    size, rate, overflow_probability = map(plain, (size, rate, overflow_probability))
    _require_rate("padded_size", size, rate)
    require(
        is_real(overflow_probability) and 1e-15 <= overflow_probability < 1,
        "padded_size",
        "1e-15 <= overflow_probability < 1",
        overflow_probability,
        "use 1e-12",
    )
    # isf(p) is the smallest k with P(count > k) <= p.
    quantile = scipy.stats.binom.isf(overflow_probability, size, rate)
    return min(size, math.ceil(quantile))


def shard_of(index: Tensor, shards: int) -> Tensor:
    """Which of ``shards`` shards a record is in: ``index // 8 % shards``, int64 like ``index``.

    A rule that knows one record's number alone, and neither how many records there are nor how many
    processes: a run on another number of processes has the same shards. Eight records in a row
    share a block of the cipher that tosses their coins.

    >>> shard_of(torch.arange(0, 48, 8), shards=4)
    tensor([0, 1, 2, 3, 0, 1])
    """
    shards = plain(shards)
    require(
        is_count(shards) and shards >= 1, "shard_of", "an int shards >= 1", shards, "pass how many"
    )
    require(
        isinstance(index, Tensor) and not index.is_floating_point() and not index.is_complex(),
        "shard_of",
        "a tensor of record numbers",
        index.dtype if isinstance(index, Tensor) else type(index).__name__,
        "pass the indices of sampling.poisson",
        error=TypeError,
    )
    return torch.div(index, _BLOCK, rounding_mode="floor") % shards


def _drawn_in_runs(key: Key, size: int, rate: float, shard: int, shards: int) -> Iterator[Tensor]:
    """The records drawn, run after run, so that no more than a run's coins are in memory.

    The cipher runs through all coins, as it is fast; the rest is done for the own ones alone.
    """
    run = _BLOCK * shards * max(1, _RUN // (_BLOCK * shards))
    for start in range(0, size, run):
        blocks = -(-min(run, size - start) // _BLOCK)
        words = bits(key, _BLOCK * blocks, start=start).view(blocks, _BLOCK)[shard::shards]
        block, place = decided(words, probability=rate).nonzero().unbind(1)
        indices = start + (block * shards + shard) * _BLOCK + place
        yield indices[indices < size]


def _require_part(part: tuple[int, int]) -> tuple[int, int]:
    both = tuple(map(plain, part)) if isinstance(part, tuple | list) else ()
    require(
        len(both) == 2 and all(map(is_count, both)) and both[0] < both[1],
        "poisson",
        "part=(i, n) with whole numbers 0 <= i < n",
        part,
        "pass the number of the shard and how many shards there are",
    )
    return both[0], both[1]


def _require_rate(subject: str, size: int, rate: float) -> None:
    require(is_count(size) and size >= 1, subject, "an int size >= 1", size, "pass len(dataset)")
    require(
        is_real(rate) and 0 <= rate <= 1,
        subject,
        "a probability 0 <= rate <= 1",
        rate,
        "pass expected_batch_size / len(dataset)",
    )
