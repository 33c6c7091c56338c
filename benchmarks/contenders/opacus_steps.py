"""Opacus, in its three ways to per-sample gradients.

`ModuleValidator.fix` first replaces what Opacus has its own layers for (LSTM, attention, ...); its
RNN it has to be told of.
"""

import copy

import torch
from torch import nn

from benchmarks.contenders.contract import (
    LEARNING_RATE,
    MAX_NORM,
    NOISE_MULTIPLIER,
    Step,
    trainable,
)
from benchmarks.workloads.workload import Workload


def _own_layers(model: nn.Module) -> nn.Module:
    from opacus.layers import DPRNN
    from opacus.validators import ModuleValidator

    def own_rnn(layer: nn.RNN, **_: object) -> nn.Module:
        options = {"bias": layer.bias, "batch_first": layer.batch_first}
        own = DPRNN(layer.input_size, layer.hidden_size, layer.num_layers, **options)
        own.load_state_dict(layer.state_dict())
        return own

    ModuleValidator.FIXERS[nn.RNN] = own_rnn
    return ModuleValidator.fix(copy.deepcopy(model))


def _step(work: Workload, **options: bool) -> Step:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model = GradSampleModule(_own_layers(work.model), **options)
    optimizer = DPOptimizer(
        torch.optim.SGD(trainable(model), lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        expected_batch_size=len(work.labels),
    )

    def step() -> None:
        optimizer.zero_grad()
        work.losses(model(work.inputs), work.labels).mean().backward()
        optimizer.step()

    return Step(step, model)


def hooks(work: Workload) -> Step:
    return _step(work)


def functorch(work: Workload) -> Step:
    return _step(work, force_functorch=True)


def ghost(work: Workload) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    model = GradSampleModuleFastGradientClipping(
        _own_layers(work.model), max_grad_norm=MAX_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(trainable(model), lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        expected_batch_size=len(work.labels),
    )

    class Criterion:
        """The protocol that Opacus expects: losses of the whole batch, or of each sample."""

        reduction = "mean"

        def __call__(self, logits, labels, **_):
            losses = work.losses(logits, labels)
            return losses if self.reduction == "none" else losses.mean()

    criterion = DPLossFastGradientClipping(model, optimizer, Criterion(), "mean")

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(work.inputs), work.labels).backward()
        optimizer.step()

    return Step(step, model)
