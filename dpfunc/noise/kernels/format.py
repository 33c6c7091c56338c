"""Which random bits make which item of a release: the one format that every kernel keeps to.

A release is flat: the items of all parameters in one row, in the order of their names. Item after
item falls into groups of 4,096. A group reads 256 blocks of ChaCha20, whose 16 words of 32 bits are
rows: row w has word w of each block. Word b of row w < 8 is the radius of pair ``256 w + b``, the
word below it in row w + 8 its angle. The pair makes two items of its group, by its cosine and its
sine, half a group apart. So any range of items can be made alone.

With U and V uniform on [0, 1), ``radius = sqrt(-2 log U)`` and ``angle = 2 pi V``:

- U begins with the upper 31 bits of the radius word (its lowest bit is read by nothing);
- bit 31 of the angle word is the sign of the cosine, bit 30 that of the sine, and the lower 30 bits
  begin the fraction of a quarter turn between them;
- the bits after those are in block p of another key's stream, for pair p of the release: four words
  of 64 bits for U, then four for the angle.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dpfunc.random.chacha import keystream
from dpfunc.random.keys import Key, fold_in

BLOCKS = 256  # of the cipher, in a group
ROWS = 8  # of pairs
PAIRS = ROWS * BLOCKS
GROUP = 2 * PAIRS  # items
MOST_ITEMS = 2**32 // BLOCKS * GROUP  # the counter of a cipher's key has 32 bits
RADIUS_BITS, ANGLE_BITS = 31, 30
_FURTHER_WORDS = 4


class Streams(NamedTuple):
    """The keys of a release: of the bits that every item has, of those that few need, and of all
    beyond: keys are folded from ``rest``, and the cipher has the others.
    """

    words: Key
    further: Key
    rest: Key


def streams(key: Key) -> Streams:
    """The streams of the release that ``key`` is for. It must serve no other purpose."""
    return Streams(fold_in(key, "words"), fold_in(key, "further bits"), fold_in(key, "rest"))


def pair_words(key: Key, groups: range, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radius and angle words of the pairs of ``groups``: int32 ``[groups, PAIRS]`` both."""
    blocks = len(groups) * BLOCKS
    stream = keystream(
        key.secret_bytes, 64 * blocks, device=device, first_block=groups.start * BLOCKS
    )
    rows = stream.view(torch.int32).view(len(groups), BLOCKS, 2 * ROWS).transpose(1, 2)
    radius, angle = rows.contiguous().view(len(groups), 2, PAIRS).unbind(1)
    return radius, angle


def further_words(key: Key, pair: int) -> tuple[list[int], list[int]]:
    """The words of 64 bits that go on with the radius and the angle of a pair of the release."""
    high, low = divmod(pair, 2**32)
    stream = keystream(
        key.secret_bytes,
        64,
        device=torch.device("cpu"),
        nonce=high.to_bytes(12, "little"),
        first_block=low,
    )
    words = [word % 2**64 for word in stream.view(torch.int64).tolist()]
    return words[:_FURTHER_WORDS], words[_FURTHER_WORDS:]
