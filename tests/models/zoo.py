"""Models of Hugging Face transformers, unmodified, with random weights in tiny configurations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.types import Tensors

WORDS, LENGTH, SAMPLES = 37, 6, 3


class Case(NamedTuple):
    """A model and a batch of keyword arguments for it, each ``[B, ...]``."""

    model: nn.Module
    batch: Tensors

    def losses(self, params: Tensors, batch: Tensors) -> Tensor:
        """``[B]``: how unlikely the first class is, at every position."""
        output = functional_call(self.model, params, (), batch)
        logits = output.logits if "logits" in output else output.logits_per_image.diagonal()
        return -logits.unsqueeze(-1).log_softmax(1)[:, 0].flatten(1).mean(1)

    def loss(self, params: Tensors, sample: Tensors) -> Tensor:
        """The loss of one sample."""
        return self.losses(params, {name: part[None] for name, part in sample.items()})[0]


def _case(model: nn.Module, **batch: Tensor) -> Case:
    return Case(model.double(), batch)
