"""`fix_module`: layers that mix or remember samples, replaced by layers that do not."""

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from dpfunc.checks import require
from dpfunc.modules.checking.report import table
from dpfunc.modules.mending.folding import Affine, folded
from dpfunc.modules.mending.norm_then import GroupNormThen, is_norm_then_children

_MAX_GROUPS = 32  # Wu and He 2018, "Group Normalization", section 4
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def fix_module(module: nn.Module, *, fold_statistics: bool = False) -> nn.Module:
    """A copy of ``module`` whose normalisation looks at one sample alone.

    - BatchNorm (1d, 2d, 3d, sync) becomes GroupNorm (Wu and He 2018): statistics of one sample
      instead of the batch. Up to 32 groups, of at least 2 channels, or 16 for BatchNorm1d, whose
      input may have one value a channel. The learned scale and shift are kept, frozen or not. A
      subclass that calls its submodules afterwards (timm's BatchNormAct2d) keeps them.
    - InstanceNorm loses its running statistics, and uses those of the sample in eval mode too.

    ``fold_statistics``: what becomes of the running statistics of BatchNorm. They describe the data
    that the module was trained on.

    - False: dropped. Outputs change; nothing of those data is used.
    - True: folded into the scale and the shift, so that outputs are those of BatchNorm in eval mode
      for samples whose statistics are the running ones (`dpfunc.modules.mending.folding.folded`
      derives it).
      A BatchNorm without scale and shift gets frozen ones.

    Guarantee: none is lost by False. True releases the running statistics with the model: right
    where they come from public data (a pretrained model), wrong where private data have passed
    through BatchNorm in training mode, whose statistics no noise covers.

    | case | result |
    |---|---|
    | nothing to mend | a copy |
    | ``module`` is itself a BatchNorm | a GroupNorm |
    | a layer used several times | stays one layer |
    | no running statistics, or ones never updated | folding changes nothing |

    ``module`` itself is not changed; `fix_report` says what would be. Raises ValueError for lazy
    layers, for another subclass of BatchNorm, whose doings would be lost, for one with hooks, and
    where statistics cannot be folded because other layers use the same scale or shift; TypeError
    for what is no module.

    >>> fix_module(nn.BatchNorm2d(64))
    GroupNorm(32, 64, eps=1e-05, affine=True, bias=True)
    """
    _require_fixable(module, fold_statistics)
    fixed = copy.deepcopy(module)
    replacements = {id(layer): _fixed_layer(layer, fold_statistics) for layer in fixed.modules()}
    for parent in list(fixed.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = replacements[id(child)]
    return replacements[id(fixed)]


def fix_report(module: nn.Module, *, fold_statistics: bool = False) -> "FixReport":
    """What ``fix_module(module, fold_statistics=...)`` changes; empty for nothing. Print it.

    Raises what `fix_module` raises.

    >>> [(at.path, at.now) for at in fix_report(nn.Sequential(nn.BatchNorm2d(8)))]
    [('0', 'GroupNorm(4, 8)')]
    """
    _require_fixable(module, fold_statistics)
    changes = []
    for path, layer in module.named_modules():
        was = type(layer).__name__
        if isinstance(layer, _BatchNorm):
            then = "".join(f", {name}" for name, _ in layer.named_children())
            now = f"GroupNorm({_groups(layer)}, {layer.num_features}){then}"
            changes.append(FixChange(path, was, now, _kept(layer, fold_statistics)))
        elif isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            kept = "scale and shift kept, running statistics dropped: eval mode uses the sample's"
            changes.append(FixChange(path, was, was, kept))
    return FixReport(changes)


class FixChange(NamedTuple):
    """One layer of a module, at the dotted name ``path``: what it was, what it is ``now``."""

    path: str
    was: str
    now: str
    kept: str


class FixReport(list[FixChange]):
    """A list of changes, which prints as a table."""

    def __str__(self) -> str:
        if not self:
            return "nothing to change"
        return table(("path", "was", "becomes", "what is kept"), self)


def _require_fixable(module: nn.Module, fold_statistics: bool) -> None:
    require(
        isinstance(module, nn.Module),
        "fix_module",
        "an nn.Module",
        type(module).__name__,
        "pass the model itself",
        error=TypeError,
    )
    lazy = [path for path, param in module.named_parameters() if is_lazy(param)]
    require(
        not lazy,
        "fix_module",
        "a module whose shapes are known",
        lazy,
        "run a forward pass first, which materialises lazy layers",
    )
    for path, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            _require_plain(path, layer)
            if fold_statistics:
                _require_own_affine(module, path, layer)


def _require_plain(path: str, layer: _BatchNorm) -> None:
    require(
        type(layer) in _BATCH_NORMS or is_norm_then_children(layer),
        "fix_module",
        f"BatchNorm as torch.nn has it at {path!r}, or one that calls its submodules after it",
        type(layer).__name__,
        "replace this subclass by hand: what it does beyond that would be lost",
    )
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    require(
        not hooks and not layer._backward_hooks,
        "fix_module",
        f"no hooks on the BatchNorm at {path!r}",
        hooks or list(layer._backward_hooks.values()),
        "remove them, fix the module, and put them on the new layer",
    )


def _require_own_affine(module: nn.Module, path: str, layer: _BatchNorm) -> None:
    uses: dict[nn.Parameter, list[str]] = {}
    for parent_path, parent in module.named_modules():
        for name, param in parent._parameters.items():
            if param is not None:
                uses.setdefault(param, []).append(f"{parent_path}.{name}".lstrip("."))
    shared = [uses[param] for param in layer._parameters.values() if param is not None]
    require(
        _statistics(layer) is None or all(len(names) == 1 for names in shared),
        "fix_module",
        f"a scale and a shift of its own for {path!r}, to fold its statistics into",
        [names for names in shared if len(names) > 1],
        "give each layer its own, or leave fold_statistics=False",
    )


def _fixed_layer(layer: nn.Module, fold_statistics: bool) -> nn.Module:
    if isinstance(layer, _BatchNorm):
        return _group_norm(layer, fold_statistics)
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return layer


def _group_norm(layer: _BatchNorm, fold_statistics: bool) -> nn.GroupNorm:
    groups, channels = _groups(layer), layer.num_features
    kind = nn.GroupNorm if type(layer) in _BATCH_NORMS else GroupNormThen
    norm = kind(groups, channels, eps=layer.eps, affine=False)
    for name, child in layer.named_children():  # of a subclass, in the order of their calls
        norm.add_module(name, child)
    norm.affine = layer.affine
    norm.weight, norm.bias = layer.weight, layer.bias  # the same parameters, frozen or not
    statistics = _statistics(layer)
    if fold_statistics and statistics is not None:
        mean, var = statistics
        if not layer.affine:  # statistics are nothing to learn
            norm.affine = True
            norm.weight = nn.Parameter(torch.ones_like(mean), requires_grad=False)
            norm.bias = nn.Parameter(torch.zeros_like(mean), requires_grad=False)
        affine = folded(Affine(norm.weight, norm.bias), mean, var, groups=groups, eps=layer.eps)
        with torch.no_grad():
            norm.weight.copy_(affine.scale)
            norm.bias.copy_(affine.shift)
    return norm.train(layer.training)


def _groups(layer: _BatchNorm) -> int:
    channels = layer.num_features
    most = min(_MAX_GROUPS, channels // (16 if isinstance(layer, nn.BatchNorm1d) else 2))
    return max((g for g in range(1, most + 1) if channels % g == 0), default=1)


def _statistics(layer: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The running mean and variance, where there are such."""
    if layer.running_mean is None or layer.running_var is None:
        return None
    return layer.running_mean, layer.running_var


def _kept(layer: _BatchNorm, fold_statistics: bool) -> str:
    affine = "scale and shift kept" if layer.affine else "no scale and shift"
    if _statistics(layer) is None:
        return f"{affine}; there are no running statistics"
    if not fold_statistics:
        return f"{affine}, running statistics dropped: outputs change"
    folded_into = "scale and shift" if layer.affine else "a frozen scale and shift"
    return (
        f"running statistics folded into {folded_into}: outputs of eval mode kept for samples "
        "whose own statistics are the running ones"
    )
