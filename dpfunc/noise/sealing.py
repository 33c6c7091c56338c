"""Memory of noise in a state, sealed: without the key it is as good as random bits.

Whoever has the noise of a step and its release has the private sum. So what a state keeps of
earlier noise is combined by exclusive or with the key's own bits, one stream for each tensor.
"""

import torch
from torch import Tensor

from dpfunc.random.keys import Key, bits

_WORDS = {torch.int32: torch.int32, torch.int64: torch.int64, torch.float64: torch.int64}


def sealed(values: Tensor, key: Key) -> Tensor:
    """Words ``[n]`` of the width of ``values`` ``[n]``. ``key`` must serve no other purpose."""
    words = values.view(_WORDS[values.dtype])
    return _stream(words, key).bitwise_xor_(words)  # in its memory: nobody else has the stream


def opened(words: Tensor, key: Key, dtype: torch.dtype) -> Tensor:
    """The values again, of ``dtype``."""
    return (words ^ _stream(words, key)).view(dtype)


def _stream(words: Tensor, key: Key) -> Tensor:
    stream = bits(key, -(-words.numel() * words.itemsize // 8), device=words.device)
    return stream.view(words.dtype)[: words.numel()]
