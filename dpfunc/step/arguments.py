"""Checks of what a `PrivateGrad` is made of, and called with."""

from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_count, require
from dpfunc.persample.batches.batch import batch_device, batch_size
from dpfunc.types import Tensors


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


def require_microbatches(size: object, budget: object, *, is_batched: bool) -> None:
    """ValueError for a `PrivateGrad` with another size of microbatches, or memory budget."""
    require(
        size is None or size == "auto" or (is_count(size) and size >= 1),
        "PrivateGrad",
        'microbatch_size >= 1, "auto" or None',
        size,
        "use None for the whole batch at once",
    )
    require(
        size != "auto" or not is_batched,
        "PrivateGrad",
        'a loss of one sample with microbatch_size="auto"',
        "a loss marked by batched",
        "its Python code may depend on data, which the count goes without; choose a number",
    )
    require(
        budget is None or (size == "auto" and is_count(budget)),
        "PrivateGrad",
        'memory_budget as a number of bytes, beside microbatch_size="auto"',
        (budget, size),
        'pass microbatch_size="auto", or leave memory_budget out',
    )


def require_numbers(params: Tensors, args: tuple[Any, ...]) -> None:
    """ValueError where samples have numbers and parameters have none."""
    absent = [name for name, param in params.items() if param.is_meta]
    require(
        not absent or batch_device(args).type == "meta",
        "PrivateGrad.update",
        "parameters with numbers, as the batch has",
        f"{absent[:3]} on the meta device",
        'materialise the module with module.to_empty(device="cpu"), and load or initialise it',
    )


def require_state(state: object) -> None:
    """TypeError for another state of a `PrivateGrad` than it made."""
    require(
        isinstance(state, dict) and state.keys() == {"clip", "noise"},
        "PrivateGrad.update",
        "the state that init(params) or the last update returned",
        sorted(state) if isinstance(state, dict) else type(state).__name__,
        "call state = private.init(params) before the first step",
        error=TypeError,
    )
