"""What every contender does: forward, backward, clip, noise, update, on the same model and batch.

A builder takes a `Workload` and returns a `Step`; where it cannot run the workload it raises.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.workloads.workload import Workload

MAX_NORM, NOISE_MULTIPLIER, LEARNING_RATE = 1.0, 1.0, 1e-3


class Step(NamedTuple):
    """``take()`` takes one step of ``model``, which is None where another process has it."""

    take: Callable[[], None]
    model: nn.Module | None


Builder = Callable[[Workload], Step]


def model_and_optimizer(work: Workload) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = copy.deepcopy(work.model)
    return model, torch.optim.SGD(trainable(model), lr=LEARNING_RATE)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [param for param in model.parameters() if param.requires_grad]
