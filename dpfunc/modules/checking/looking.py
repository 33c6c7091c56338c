"""What a look at a module tells, without running it: a pure function of the module."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from dpfunc.checks import require
from dpfunc.modules.checking.report import Problem

META = torch.device("meta")


def look(module: nn.Module) -> list[Problem]:
    """The problems that can be seen without running ``module``, which is not changed.

    TypeError where it is no `nn.Module`.
    """
    require(
        isinstance(module, nn.Module),
        "check_module",
        "an nn.Module",
        type(module).__name__,
        "pass the model itself",
        error=TypeError,
    )
    layers = [
        problem
        for path, layer in module.named_modules()
        for of_layer in _OF_LAYER
        for problem in of_layer(path, layer)
    ]
    return [*layers, *(problem for of_module in _OF_MODULE for problem in of_module(module))]


def can_run(module: nn.Module) -> bool:
    """Whether all parameters and buffers of ``module`` have numbers."""
    held = [*module.parameters(), *module.buffers()]
    return not any(is_lazy(tensor) or tensor.device == META for tensor in held)


def _batch_norm(path: str, layer: nn.Module) -> Iterator[Problem]:
    if isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats):
        yield Problem(
            path,
            f"{type(layer).__name__} normalises with the statistics of the batch",
            "samples would change each other's gradients, which clipping cannot bound",
            "use fix_module, which puts GroupNorm in its place, or keep the layer in eval mode",
        )


def _instance_norm(path: str, layer: nn.Module) -> Iterator[Problem]:
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats and layer.training:
        yield Problem(
            path,
            f"{type(layer).__name__} keeps running statistics of the training data",
            "they become part of the model without any noise",
            "use fix_module, or track_running_stats=False",
        )


def _embedding(path: str, layer: nn.Module) -> Iterator[Problem]:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
        yield Problem(
            path,
            f"{type(layer).__name__} with max_norm rescales the rows that it looks up, in place",
            "which rows shrink tells which ids the data hold, and no noise covers it",
            "set max_norm=None; after each step, all rows may be rescaled, seen or not",
        )


def _spectral_norm(path: str, layer: nn.Module) -> Iterator[Problem]:
    hooked = any(isinstance(hook, SpectralNorm) for hook in layer._forward_pre_hooks.values())
    parametrized = isinstance(layer, _SpectralNorm) and "_u" in layer._buffers
    if layer.training and (hooked or parametrized):
        yield Problem(
            path,
            "spectral norm iterates in forward and writes its vectors to buffers",
            "nothing leaks, as the vectors follow the weights alone, but the engine refuses it: it "
            "cannot tell this from a buffer that remembers data",
            "put this layer in eval mode for the private step; the norm then uses the vectors that "
            "it has, which a forward pass in training mode on public data brings up to date",
        )


def _unknown_shape(path: str, layer: nn.Module) -> Iterator[Problem]:
    own = [*layer._parameters.values(), *layer._buffers.values()]
    if any(tensor is not None and is_lazy(tensor) for tensor in own):
        yield Problem(
            path,
            f"{type(layer).__name__} is lazy: its shapes are not known yet",
            "no gradient can be clipped before the parameters are there",
            "run one forward pass on public or made-up data first",
        )


def _script(module: nn.Module) -> Iterator[Problem]:
    inside: list[str] = []
    for path, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule) and not path.startswith(tuple(inside)):
            inside.append(f"{path}." if path else "")
            yield Problem(
                path,
                "TorchScript hides its layers and what they do with a parameter",
                "a layer that mixes samples cannot be seen in it, and the factored engine "
                "refuses it",
                "use the plain PyTorch module that it was made from",
            )


def _dropout(module: nn.Module) -> Iterator[Problem]:
    layers = [path for path, layer in module.named_modules() if _drops(layer)]
    if layers:
        yield Problem(
            layers[0],
            f"draws dropout masks{_and_more(layers)}",
            "each sample must draw its own. The masks come from torch's generator, which has to be "
            "as secret as the noise",
            'pass randomness="different", and do not seed torch in a private run',
            "warning",
        )


def _drops(layer: nn.Module) -> bool:
    if not layer.training:
        return False
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    if isinstance(layer, nn.RNNBase):
        return layer.dropout > 0 and layer.num_layers > 1
    return isinstance(layer, nn.MultiheadAttention) and layer.dropout > 0


def _complex(module: nn.Module) -> Iterator[Problem]:
    for name, param in module.named_parameters():
        if param.requires_grad and param.is_complex():
            yield Problem(
                name,
                "a complex parameter",
                "clipping and noise are proven for real numbers; the engine refuses it",
                "keep its real and imaginary parts as two parameters, see torch.view_as_real",
            )


def _devices(module: nn.Module) -> Iterator[Problem]:
    first_on: dict[torch.device, str] = {}
    for name, param in module.named_parameters():
        first_on.setdefault(param.device, name)
    if len(first_on) > 1:
        yield Problem(
            list(first_on.values())[1],
            f"parameters lie on several devices: {', '.join(map(str, first_on))}",
            "the norm of a sample's gradient is taken over all of them together",
            "move the whole module to one device",
        )


def _half_precision(module: nn.Module) -> Iterator[Problem]:
    named = list(module.named_parameters())
    small = [name for name, param in named if param.dtype == torch.float16]
    coarse = [name for name, param in named if param.dtype == torch.bfloat16]
    if small:
        yield Problem(
            small[0],
            f"float16 parameter{_and_more(small)}: gradients overflow above 65504",
            "none: a sample whose gradient overflows is dropped, and norms, sums and noise are "
            "computed in float32. But it then teaches the model nothing",
            "use bfloat16, or float32 parameters under torch.autocast",
            "warning",
        )
    if coarse:
        yield Problem(
            coarse[0],
            f"bfloat16 parameter{_and_more(coarse)}: 8 bits of precision",
            "none: norms, sums and noise are computed in float32. But updates below 1/256 of a "
            "weight are rounded away",
            "keep float32 parameters and compute in bfloat16 under torch.autocast",
            "note",
        )


def _shared(module: nn.Module) -> Iterator[Problem]:
    names: dict[Tensor, list[str]] = {}
    for name, param in module.named_parameters(remove_duplicate=False):
        names.setdefault(param, []).append(name)
    for first, *others in names.values():
        if others:
            yield Problem(
                first,
                f"shared: also known as {', '.join(others)}",
                "none: the gradients of all uses are added up before the norm is taken",
                "nothing to do",
                "note",
            )


def _and_more(paths: list[str]) -> str:
    return f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""


_OF_LAYER: tuple[Callable[[str, nn.Module], Iterator[Problem]], ...] = (
    _batch_norm,
    _instance_norm,
    _embedding,
    _spectral_norm,
    _unknown_shape,
)
_OF_MODULE: tuple[Callable[[nn.Module], Iterator[Problem]], ...] = (
    _script,
    _dropout,
    _complex,
    _devices,
    _half_precision,
    _shared,
)
