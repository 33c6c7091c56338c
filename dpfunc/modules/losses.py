"""The loss of one sample, out of a module and a criterion for batches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dpfunc.checks import require
from dpfunc.persample.batches.batch import map_tensors
from dpfunc.step.one_process import require_unwrapped
from dpfunc.types import Tensors


def loss_of(model: nn.Module, criterion: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    """The ``loss_fn(params, *inputs, target) -> scalar`` of one sample, for `PrivateGrad`.

    ``criterion(model(*inputs), target)``, as in an ordinary loop, on a batch of this one sample:
    inputs and target get an axis 0 of size 1 (tensors in tuples and dicts, too). The model computes
    with ``params`` in the place of its own parameters; those not in ``params`` stay as they are.
    ``criterion``: a function or module that returns one number for this batch of one.

    With a mean over weighted classes, ``CrossEntropyLoss(weight=w)``, the weight of a single sample
    cancels: it is refused. With ``reduction="sum"`` it counts.

    Raises TypeError for another ``model`` or ``criterion``, and for a sample without a target;
    ValueError where the criterion returns more than one number.

    >>> import dpfunc as dp
    >>> model = nn.Linear(3, 2)
    >>> loss_fn = loss_of(model, nn.functional.cross_entropy)
    >>> grads = dp.per_sample_grad(loss_fn)(
    ...     dp.named_params(model), torch.ones(4, 3), torch.tensor([0, 1, 1, 0]))
    >>> grads["weight"].shape
    torch.Size([4, 2, 3])
    """
    require(
        isinstance(model, nn.Module),
        "loss_of",
        "an nn.Module",
        type(model).__name__,
        "pass the model, and the criterion after it",
        error=TypeError,
    )
    require_unwrapped("loss_of", model)
    require(
        callable(criterion) and not isinstance(criterion, type),
        "loss_of",
        "a criterion(output, target)",
        criterion if isinstance(criterion, type) else type(criterion).__name__,
        "pass a function such as torch.nn.functional.cross_entropy, or a module made of its class",
        error=TypeError,
    )
    _require_weights_that_count(criterion)

    def loss_fn(params: Tensors, *sample: Any) -> Tensor:
        require(
            len(sample) >= 2,
            "loss_of",
            "a sample of inputs and a target",
            f"{len(sample)} parts",
            "pass batch = (x, y); for a loss without a target write a loss_fn of your own",
            error=TypeError,
        )
        *inputs, target = map_tensors(_alone, sample)
        loss = criterion(torch.func.functional_call(model, params, tuple(inputs)), target)
        require(
            isinstance(loss, Tensor) and loss.numel() == 1,
            "loss_of",
            "a criterion that returns one number for a batch of one sample",
            tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__,
            'use reduction="mean" or "sum"',
        )
        return loss.reshape(())

    return loss_fn


def _alone(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0)


def _require_weights_that_count(criterion: object) -> None:
    if not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
        return
    require(
        criterion.weight is None or criterion.reduction != "mean",
        "loss_of",
        'class weights with reduction="sum"',
        'reduction="mean", which divides the loss of one sample by its own weight',
        f'use {type(criterion).__name__}(weight=..., reduction="sum")',
    )
