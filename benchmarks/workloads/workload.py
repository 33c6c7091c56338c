"""What a workload is: a model, a batch and a criterion on the model's output."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Workload(NamedTuple):
    """``losses(model(inputs) [B, ...], labels [B, ...]) -> [B]``."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    losses: Callable[[Tensor, Tensor], Tensor]
    name: str = ""


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def next_token(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the tokens of each sample."""
    return (
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        .unflatten(0, labels.shape)
        .mean(1)
    )


def squared_error(output: Tensor, labels: Tensor) -> Tensor:
    return (output - labels).square().flatten(1).mean(1)
