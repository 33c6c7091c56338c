"""`check_module`: the problems of a module for training with DP, before training."""

from typing import Any

from torch import nn

from dpfunc.checks import require
from dpfunc.modules.checking.looking import can_run, look
from dpfunc.modules.checking.probing import probe
from dpfunc.modules.checking.report import Problem, Report
from dpfunc.persample.batches.batch import batch_size
from dpfunc.persample.definition.loss import Batched, LossFn


def check_module(module: nn.Module, loss_fn: LossFn | None = None, *, batch: Any = None) -> Report:
    """The problems of ``module`` for training with DP; empty if none were found. Print it.

    Check it in the mode in which it will be trained: BatchNorm and dropout do harm in training mode
    alone, and pretrained models often come in eval mode.

    By looking, always: BatchNorm that uses the statistics of the batch, InstanceNorm that keeps
    some, embeddings with ``max_norm``, spectral norm, lazy layers, TorchScript, dropout, complex
    and half-precision parameters, several devices, shared parameters.

    With a ``batch`` of samples that differ (8 are enough), also by running on a few of them:

    - ``loss_fn(params, *sample)``, the loss of one sample, or one that `batched` marks;
    - without a ``loss_fn`` the module: ``module(*batch)``, or ``module(**batch)`` for a dict.

    Found are samples that mix (sample j is replaced by another; what is returned for sample i may
    not move) with the first layer in which they do, buffers and parameters changed in forward,
    attributes that keep data, parameters without use, a batch changed in place, results that depend
    on chance with dropout left out, and what raises. The probe runs at parameters near those of
    the module, so that a gate at zero hides nothing. With a loss, the engine then tries it.

    Guarantee: none. An empty report is not a proof: what shows only in other data or later
    steps is not found. That the module, the batch and torch's generators are left as they were is
    promised, also where something raises; losing what Python objects of its own remember is not.

    | case | result |
    |---|---|
    | nothing found | an empty report, equal to ``[]`` |
    | a lazy layer, or a tensor on the meta device | a look only: there are no numbers to run on |
    | all samples alike | a warning: whether they mix cannot be seen |
    | what is run raises | an error that names the layer and says what was raised |

    Raises ValueError for a ``loss_fn`` without a ``batch``, and for a single sample where samples
    could mix; TypeError for what is no module, or a batch with other things than tensors.

    >>> report = check_module(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    >>> [(at.severity, at.path) for at in report]
    [('error', '1')]
    """
    require(
        loss_fn is None or batch is not None,
        "check_module",
        "a batch with the loss_fn",
        "none",
        "pass a few samples for the loss to run on",
    )
    found = look(module)
    if batch is not None:
        _require_samples(loss_fn, batch)
        if can_run(module):
            found += _not_told(probe(module, loss_fn, batch), found)
    return Report(found)


def _require_samples(loss_fn: LossFn | None, batch: Any) -> None:
    needed = 2 if loss_fn is None or isinstance(loss_fn, Batched) else 1
    size = batch_size(batch)
    require(
        size >= needed,
        "check_module",
        f"a batch of at least {needed} samples",
        size,
        "pass a few samples that differ",
    )


def _not_told(problems: list[Problem], told: list[Problem]) -> list[Problem]:
    """``problems`` but those of layers of which looking has told an error already."""
    layers = {at.path for at in told if at.severity == "error"}

    def is_told(at: Problem) -> bool:
        return at.severity == "error" and bool({at.path, at.path.rpartition(".")[0]} & layers)

    return [at for at in problems if not is_told(at)]
