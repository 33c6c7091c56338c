"""Subclasses of BatchNorm that normalise and then call their submodules: dropout, activation."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dpfunc.random.continuous import normal
from dpfunc.random.keys import key

_AXES = ((nn.BatchNorm1d, 0), (nn.BatchNorm3d, 3), (_BatchNorm, 2))  # of a sample, but channels
_SAMPLES, _LENGTH = 4, 3


class GroupNormThen(nn.GroupNorm):
    """A GroupNorm, and its submodules after it in their order.

    >>> norm = GroupNormThen(2, 4)
    >>> norm.act = nn.ReLU()
    >>> bool((norm(torch.arange(8.0).reshape(2, 4)) >= 0).all())
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        for child in self.children():
            x = child(x)
        return x


def is_norm_then_children(layer: _BatchNorm) -> bool:
    """Whether ``layer`` does what BatchNorm does, calls its submodules, and nothing else.

    It is tried in eval mode, on a copy with running statistics, scale and shift that differ from
    channel to channel.
    """
    own = {name for name, _ in layer.named_parameters(recurse=False)}
    if not own <= {"weight", "bias"} or not list(layer.children()):
        return False
    twin = copy.deepcopy(layer).eval().to(device="cpu", dtype=torch.float64)
    for number, held in enumerate([*twin.parameters(), *twin.buffers()]):
        if held.is_floating_point():
            with torch.no_grad():
                held.copy_(1 + torch.arange(held.numel()).view(held.shape).add(number).cos().abs())
    axes = next(axes for kind, axes in _AXES if isinstance(layer, kind))
    shape = (_SAMPLES, layer.num_features, *[_LENGTH] * axes)
    x = normal(key(), shape, dtype=torch.float64)
    with torch.no_grad():
        try:
            actual = twin(x.clone())
            expected = F.batch_norm(
                x, twin.running_mean, twin.running_var, twin.weight, twin.bias, eps=twin.eps
            )
            for child in twin.children():
                expected = child(expected)
        except (RuntimeError, TypeError, ValueError):  # it does not take what BatchNorm takes
            return False
    return (
        isinstance(actual, Tensor)
        and actual.shape == expected.shape
        and (bool(torch.allclose(actual, expected)))
    )
