"""Checks of what a `PrivateGrad` is made of, and called with."""

from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.batches.batch import batch_device, batch_size


def whole_mask(mask: Tensor | None, args: tuple[Any, ...]) -> Tensor:
    """The mask ``[B]``, all True where none was given."""
    size, device = batch_size(args), batch_device(args)
    if mask is None:
        return torch.ones(size, dtype=torch.bool, device=device)
    require(
        isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == (size,),
        "PrivateGrad.update",
        f"a bool mask of shape ({size},)",
        (mask.dtype, tuple(mask.shape)) if isinstance(mask, Tensor) else mask,
        "pass the mask of sampling.poisson, True for samples that count",
    )
    return mask.to(device)


def require_methods(name: str, stage: object, methods: tuple[str, ...], example: str) -> None:
    """TypeError for a stage without them."""
    require(
        all(callable(getattr(stage, method, None)) for method in methods),
        "PrivateGrad",
        f"a {name} stage with the methods {', '.join(methods)}",
        type(stage).__name__,
        f"pass {name}={example}",
        error=TypeError,
    )
