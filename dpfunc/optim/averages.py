"""Averages of parameters over the steps: most of the noise of the last ones is gone in them.

De et al. 2022 (arXiv:2204.13650, section 3) report it as one of the things that private training
gains most by. Post-processing: it costs nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dpfunc.checks import is_count, is_real, require
from dpfunc.types import Tensors


def averaged(average: Tensors, params: Tensors, *, step: int, decay: float = 0.9999) -> Tensors:
    """The moving average after ``step`` earlier ones: ``average + (1 - w) (params - average)``.

    ``w = min(decay, (1 + step) / (10 + step))``: short at first, so that the start is forgotten.

    Guarantee: post-processing. The tensors given stay as they are.

    >>> averaged({"w": torch.zeros(1)}, {"w": torch.ones(1)}, step=0)
    {'w': tensor([0.9000])}
    """
    weight = _weight("averaged", step, decay)
    return {name: torch.lerp(average[name], param, 1 - weight) for name, param in params.items()}


def warm_average(decay: float = 0.9999) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """`averaged` for ``torch.optim.swa_utils.AveragedModel(model, avg_fn=warm_average())``.

    Call its ``update_parameters(model)`` after each step, and evaluate it in place of the model.

    >>> model = torch.nn.Linear(2, 1)
    >>> average = torch.optim.swa_utils.AveragedModel(model, avg_fn=warm_average(0.999))
    >>> average.update_parameters(model)
    """
    _weight("warm_average", 0, decay)

    def average_of(average: Tensor, param: Tensor, count: Tensor | int) -> Tensor:
        return torch.lerp(average, param, 1 - _weight("warm_average", int(count), decay))

    return average_of


def _weight(subject: str, step: int, decay: float) -> float:
    require(is_count(step), subject, "an int step >= 0", step, "count the averages before this")
    require(
        is_real(decay) and 0 <= decay < 1, subject, "0 <= decay < 1", decay, "use 0.9999, or 0.99"
    )
    return min(decay, (1 + step) / (10 + step))
