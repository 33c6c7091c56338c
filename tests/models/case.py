"""What a case is: a model of transformers with random weights, a batch for it and a loss."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.types import Tensors

hf = pytest.importorskip("transformers", reason='needs transformers: pip install ".[test]"')

WORDS, LENGTH, SAMPLES = 37, 6, 3


def minus_log_likelihood(output: dict[str, Tensor]) -> Tensor:
    """``[B]``: how unlikely the first class is, over all positions."""
    logits = output["logits"]
    return -logits.log_softmax(-1)[..., 0].reshape(len(logits), -1).mean(1)


class Case(NamedTuple):
    """A model, a batch of keyword arguments for it, each ``[B, ...]``, and a loss of its output.

    ``by_vmap``: whether vmap can run it, or else only the whole batch.
    """

    model: nn.Module
    batch: Tensors
    by_vmap: bool
    score: Callable[[dict[str, Tensor]], Tensor] = minus_log_likelihood

    def losses(self, params: Tensors, batch: Tensors) -> Tensor:
        """The losses ``[B]`` of a batch."""
        return self.score(functional_call(self.model, params, (), batch))

    def loss(self, params: Tensors, sample: Tensors) -> Tensor:
        """The loss of one sample."""
        return self.losses(params, {name: part[None] for name, part in sample.items()})[0]


class Entry(NamedTuple):
    """How to make a case: ``hf.<config>(**options)``, then ``hf.<model>`` of it."""

    model: str
    config: str
    options: dict[str, object]
    batch: Callable[[], Tensors]
    by_vmap: bool = False
    score: Callable[[dict[str, Tensor]], Tensor] = minus_log_likelihood

    def make(self) -> Case:
        model = getattr(hf, self.model)(getattr(hf, self.config)(**self.options))
        return Case(model.double(), self.batch(), self.by_vmap, self.score)


def numbers(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


def tokens() -> Tensor:
    return (numbers(1, SAMPLES, LENGTH).abs() * 100).long() % (WORDS - 3) + 2


def text() -> Tensors:
    """Texts of one length, which need no mask."""
    return {"input_ids": tokens()}


def masked_text() -> Tensors:
    """Texts of 4, 6 and 2 tokens, padded."""
    mask = (torch.arange(LENGTH) < torch.tensor([[4], [LENGTH], [2]])).long()
    return {"input_ids": tokens(), "attention_mask": mask}


def images(size: int) -> Tensors:
    return {"pixel_values": numbers(2, SAMPLES, 3, size, size)}
