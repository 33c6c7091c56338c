"""The corner where functions meet `nn.Module`: parameters out, gradients in."""

from collections.abc import Mapping

from torch import nn

from dpfunc.checks import require
from dpfunc.step.one_process import require_unwrapped
from dpfunc.types import Tensors


def named_params(module: nn.Module) -> Tensors:
    """The trainable parameters of ``module`` by name: detached views that share its storage.

    An optimiser that steps the module updates them too. A tied parameter appears once, under its
    first name; frozen ones are left out. Moving the module to another device or dtype makes new
    storage: call this again then. TypeError for a module that is wrapped for several processes.

    >>> sorted(named_params(nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    _require_module("named_params", module)
    require_unwrapped("named_params", module)
    return {name: param.detach() for name, param in _trainable(module).items()}


def set_grads_(module: nn.Module, grads: Tensors) -> None:
    """Write ``grads`` to the ``.grad`` of the module's trainable parameters, for any optimiser.

    Replaces what was there: gradients are not accumulated. Raises ValueError, and writes nothing,
    unless there is one gradient of the right shape for exactly each trainable parameter.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> set_grads_(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    >>> model.weight.grad
    tensor([[1., 1.]])
    """
    _require_module("set_grads_", module)
    require(
        isinstance(grads, Mapping),
        "set_grads_",
        "gradients by the names of parameters",
        type(grads).__name__,
        "pass what PrivateGrad.update returned for named_params(module)",
        error=TypeError,
    )
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


def _require_module(subject: str, module: object) -> None:
    require(
        isinstance(module, nn.Module),
        subject,
        "an nn.Module",
        type(module).__name__,
        "pass the model itself",
        error=TypeError,
    )


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: param for name, param in module.named_parameters() if param.requires_grad}
