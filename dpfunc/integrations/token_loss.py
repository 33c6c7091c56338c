"""The loss of each sample for models that predict tokens: a mean over the sample's own tokens.

Trainers divide by the number of tokens of the whole batch, so that one sample changes the weight of
all the others. These functions do not: each sample has one term.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def token_losses(outputs: Any, labels: Tensor) -> Tensor:
    """Cross-entropy of ``outputs["logits"]`` ``[B, T, V]`` at ``labels`` ``[B, T]``: ``[B]``.

    The mean over the tokens of each sample whose label is not -100; zero where there is none.

    >>> import torch
    >>> logits = torch.zeros(2, 3, 4)  # the same chance for each of 4 tokens
    >>> labels = torch.tensor([[1, 2, 3], [0, -100, -100]])
    >>> token_losses({"logits": logits}, labels)
    tensor([1.3863, 1.3863])
    """
    logits = outputs["logits"].float()
    losses = F.cross_entropy(  # [B, T]
        logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED
    )
    return losses.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)


def next_token_losses(outputs: Any, labels: Tensor) -> Tensor:
    """`token_losses` of causal language models, whose output at t predicts the label at t + 1.

    >>> import torch
    >>> next_token_losses({"logits": torch.zeros(1, 3, 4)}, torch.tensor([[0, 1, -100]]))
    tensor([1.3863])
    """
    return token_losses({"logits": outputs["logits"][:, :-1]}, labels[:, 1:])
