"""The corner where functions meet `nn.Module`: parameters out, gradients in, checks and repairs."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from dpfunc.checks import require
from dpfunc.persample.batch import as_args, take
from dpfunc.persample.loss import LossFn
from dpfunc.types import Tensors

_MAX_GROUPS = 32  # Wu and He 2018, "Group Normalization", section 4


def named_params(module: nn.Module) -> Tensors:
    """The trainable parameters of ``module`` by name: detached views that share its storage.

    An optimiser that steps the module updates them too. A tied parameter appears once, under its
    first name; frozen ones are left out. Moving the module to another device or dtype makes new
    storage: call this again then.

    >>> sorted(named_params(nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    return {name: param.detach() for name, param in _trainable(module).items()}


def set_grads_(module: nn.Module, grads: Tensors) -> None:
    """Write ``grads`` to the ``.grad`` of the module's trainable parameters, for any optimiser.

    Replaces what was there: gradients are not accumulated. Raises ValueError, and writes nothing,
    unless there is one gradient of the right shape for exactly each trainable parameter.

    >>> model = nn.Linear(2, 1)
    >>> set_grads_(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    >>> model.weight.grad
    tensor([[1., 1.]])
    """
    params = _trainable(module)
    expected = {name: tuple(param.shape) for name, param in params.items()}
    got = {name: tuple(grad.shape) for name, grad in grads.items()}
    wrong = sorted(n for n in expected.keys() | got.keys() if expected.get(n) != got.get(n))
    require(
        not wrong,
        "set_grads_",
        f"shapes { ({name: expected.get(name) for name in wrong}) }",
        {name: got.get(name) for name in wrong},
        "pass gradients for named_params(module) of this same module",
    )
    for name, param in params.items():
        param.grad = grads[name].detach().to(device=param.device, dtype=param.dtype)


class Problem(NamedTuple):
    """One thing about a module that stands in the way: ``path`` is where (a dotted name)."""

    path: str
    what: str
    why: str
    fix: str


def check_module(
    module: nn.Module, loss_fn: LossFn | None = None, *, batch: Any = None
) -> list[Problem]:
    """The problems of ``module`` for training with DP, found before training; ``[]`` if none.

    By looking: BatchNorm that uses the statistics of the batch, and buffers that such layers
    change. With ``loss_fn(params, *sample)`` and a ``batch`` to take a first sample from, also by
    running it once: parameters that the loss does not use (they would receive pure noise), buffers
    that change in forward (they leave the training without noise), and a loss that raises.
    The module is left as it was.

    >>> [at.path for at in check_module(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['1']
    """
    require(
        (loss_fn is None) == (batch is None),
        "check_module",
        "loss_fn and batch together, or neither",
        "one of them",
        "pass both to have the loss run on the first sample",
    )
    problems = [
        problem
        for path, layer in module.named_modules()
        for problem in _layer_problems(path, layer)
    ]
    if loss_fn is not None:
        problems.extend(_probe(module, loss_fn, take(tuple(as_args(batch)), 0)))
    return problems


def fix_module(module: nn.Module) -> nn.Module:
    """A copy of ``module`` that `check_module` finds no fault with by looking.

    - BatchNorm (1d, 2d, 3d, sync) becomes GroupNorm: statistics of one sample instead of the batch.
      Up to 32 groups, of at least 2 channels, or 16 for BatchNorm1d, whose input may have one value
      a channel. The learned scale and shift are kept; the running statistics have no counterpart
      and are dropped, so outputs change: fine-tune or train from scratch.
    - InstanceNorm loses its running statistics.

    ``module`` itself is not changed. Raises ValueError for lazy layers: run a forward pass first.

    >>> fix_module(nn.BatchNorm2d(64))
    GroupNorm(32, 64, eps=1e-05, affine=True, bias=True)
    """
    lazy = [path for path, param in module.named_parameters() if is_lazy(param)]
    require(
        not lazy,
        "fix_module",
        "a module whose shapes are known",
        lazy,
        "run a forward pass first, which materialises lazy layers",
    )
    fixed = copy.deepcopy(module)
    replacements = {id(layer): _fixed_layer(layer) for layer in fixed.modules()}
    for parent in list(fixed.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = replacements[id(child)]
    return replacements[id(fixed)]


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: param for name, param in module.named_parameters() if param.requires_grad}


def _uses_batch_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats)


def _layer_problems(path: str, layer: nn.Module) -> Iterator[Problem]:
    if _uses_batch_statistics(layer):
        yield Problem(
            path,
            f"{type(layer).__name__} normalises with the statistics of the batch",
            "samples would change each other's gradients, which clipping cannot bound",
            "use fix_module, which puts GroupNorm in its place, or keep the layer in eval mode",
        )
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats and layer.training:
        yield Problem(
            path,
            f"{type(layer).__name__} keeps running statistics of the training data",
            "they become part of the model without any noise",
            "use fix_module, or track_running_stats=False",
        )


def _fixed_layer(layer: nn.Module) -> nn.Module:
    if isinstance(layer, _BatchNorm):
        require(
            type(layer).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward),
            "fix_module",
            "BatchNorm as torch.nn has it",
            type(layer).__name__,
            "replace this subclass by hand: its forward does more, which would be lost",
        )
        return _group_norm(layer)
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return layer


def _group_norm(layer: _BatchNorm) -> nn.GroupNorm:
    channels = layer.num_features
    most = min(_MAX_GROUPS, channels // (16 if isinstance(layer, nn.BatchNorm1d) else 2))
    groups = max((g for g in range(1, most + 1) if channels % g == 0), default=1)
    norm = nn.GroupNorm(groups, channels, eps=layer.eps, affine=False)
    norm.affine = layer.affine
    norm.weight, norm.bias = layer.weight, layer.bias  # the same parameters, frozen or not
    return norm.train(layer.training)


def _probe(module: nn.Module, loss_fn: LossFn, sample: tuple[Any, ...]) -> Iterator[Problem]:
    kept = named_params(module)
    params = {name: value.clone().requires_grad_() for name, value in kept.items()}
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with torch.enable_grad():
            loss = loss_fn(params, *sample)
            grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    except Exception as error:
        yield Problem(
            "", f"the loss of one sample raises: {error}", "it cannot be trained", "mend it"
        )
        return
    finally:
        changed = _restore(module, before)
    for name, value in params.items():
        if not _same(value.detach(), kept[name]):
            yield Problem(
                name,
                "this parameter is changed in the forward pass itself (max_norm of an embedding?)",
                "the change depends on the data and is released without any noise",
                "do not change parameters in forward",
            )
    for name in changed:
        yield Problem(
            name,
            "this buffer changes in the forward pass",
            "what it remembers of the data becomes part of the model without any noise",
            "do not update it while training, or compute it from public data",
        )
    for name, grad in zip(params, grads, strict=True):
        if grad is None:
            yield Problem(
                name,
                "the loss does not use this parameter",
                "it would receive noise and no signal",
                "freeze it with requires_grad_(False), or remove it",
            )


def _restore(module: nn.Module, before: Tensors) -> list[str]:
    """Put the buffers back to what they were; the names of those that had changed."""
    changed = []
    for name, buffer in module.named_buffers():
        if name not in before:
            changed.append(name)
        elif not _same(buffer, before[name]):
            changed.append(name)
            buffer.copy_(before[name])
    return changed


def _same(left: Tensor, right: Tensor) -> bool:
    """Equal number by number, where NaN equals NaN."""
    return torch.equal(left.nan_to_num(nan=12345.0), right.nan_to_num(nan=12345.0))
