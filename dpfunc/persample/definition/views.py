"""A loss of one sample that holds several views of one record: augmentation multiplicity."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dpfunc.checks import is_count, require
from dpfunc.persample.definition.loss import Batched, LossFn
from dpfunc.types import Tensors


def views(loss_fn: LossFn, count: int) -> LossFn:
    """The mean of ``loss_fn`` over ``count`` views of a record, as the loss of that record.

    A sample then has the views on its first axis, a batch ``[B, count, ...]``: other crops of an
    image, say, with its label ``count`` times. De et al. 2022 (arXiv:2204.13650), section 3.2.

    Guarantee: a record is one sample, so that its gradient, the mean over its views, is clipped as
    one: the views cost no privacy. (A mean that is taken after clipping would, or samples that
    share a record: `accounting.Group`.) The views may be made of the record and chance alone.

    TypeError for a loss marked by `batched`; ValueError, when called, for another number of views.

    >>> import torch
    >>> loss = views(lambda params, x: params["w"] @ x, count=2)
    >>> loss({"w": torch.ones(3)}, torch.eye(2, 3))
    tensor(1.)
    """
    require(
        callable(loss_fn) and not isinstance(loss_fn, Batched),
        "views",
        "a loss of one sample",
        type(loss_fn).__name__,
        "pass loss_fn(params, *sample) -> scalar",
        error=TypeError,
    )
    require(is_count(count) and count >= 1, "views", "an int count >= 1", count, "use 4 or 16")

    def mean_over_views(params: Tensors, *sample: Any) -> Tensor:
        sizes = {leaf.shape[0] if leaf.ndim else None for leaf in tree_leaves(sample)}
        require(
            sizes == {count},
            "views",
            f"samples with {count} views on their first axis",
            sorted(map(str, sizes)),
            "stack the views of a record: a batch is [B, count, ...]",
        )
        one = torch.func.vmap(lambda *view: loss_fn(params, *view), randomness="different")
        losses: Tensor = one(*sample)
        return losses.mean()

    return mean_over_views
