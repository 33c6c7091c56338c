"""What the engines take: a loss of one sample, or one of the whole batch that says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from dpfunc.checks import require
from dpfunc.types import Tensors

LossFn = Callable[..., Tensor]
"""``loss_fn(params, *sample) -> scalar``: the loss of ONE sample, without a batch axis."""

Randomness = Literal["error", "different"]


@dataclass(frozen=True)
class Batched:
    """A loss that maps the whole batch to the losses ``[B]``; see `batched`.

    ``verified``: what the engine has learned of it, by the shapes of the batch.
    """

    loss_fn: LossFn
    verified: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, params: Tensors, *batch: Any) -> Tensor:
        return self.loss_fn(params, *batch)


def batched(loss_fn: LossFn) -> Batched:
    """Mark a ``loss_fn(params, *batch) -> losses [B]`` that takes the whole batch at once.

    For models whose Python code depends on the data (``if mask.all()``), which vmap cannot run.
    `factored_grad` and `PrivateGrad` take the result like any loss. The loss of a sample may depend
    on that sample alone. This is verified at first use, after 1, 2, 4, 8, ... batches, and whenever
    the shapes or the operations change: up to three samples are run one by one, and must have the
    losses and gradients there that they have in a batch, and a random combination of the gradients
    of the whole batch must be what plain autograd finds. Where lengths alone are new, two samples
    are run one by one, and the whole batch when a look is due next. BatchNorm, a mean over the
    tokens of the whole batch, ``x - x.mean(0)``, a batch that is changed in place, and samples put
    into another order on the way are refused. What the verification cannot see is a dependence that
    shows only in other batches than those it looked at (say, a branch on a rare value): such a loss
    breaks the guarantee, and keeping it out is up to its author.

    Samples lie on one axis of each tensor, in their order, perhaps merged with positions
    (``[B * T, d]``). An operation for which that cannot be told is refused by its name.

    Raises TypeError where ``loss_fn`` cannot be called; at first use RuntimeError where samples
    depend on each other, and ValueError where the result is not ``[B]``.

    >>> import torch, dpfunc as dp
    >>> loss = dp.batched(lambda params, x: (x @ params["w"]).square().sum(1))
    >>> grads, losses = dp.factored_grad(loss)({"w": torch.ones(2, 3)}, torch.eye(2))
    >>> losses
    tensor([3., 3.])
    """
    require(
        callable(loss_fn),
        "batched",
        "a loss_fn(params, *batch) -> losses [B]",
        type(loss_fn).__name__,
        "pass a function of the parameters and the whole batch",
        error=TypeError,
    )
    return Batched(loss_fn)


def require_params(params: Tensors) -> None:
    """An error unless ``params`` are tensors by name, at least one, of real floats, with data."""
    require(
        isinstance(params, Mapping) and all(isinstance(p, Tensor) for p in params.values()),
        "params",
        "tensors by name",
        type(params).__name__,
        "pass dpfunc.named_params(module); PrivateGrad and per_sample_grad take nestings",
        error=TypeError,
    )
    require(len(params) > 0, "params", "at least one parameter", {}, "see named_params(module)")
    complex_ones = [name for name, param in params.items() if param.is_complex()]
    require(
        not complex_ones,
        "params",
        "real parameters",
        f"complex ones: {complex_ones}",
        "keep their real and imaginary parts as two parameters, see torch.view_as_real",
    )
    strange = {n: p.dtype for n, p in params.items() if not p.is_floating_point()}
    require(not strange, "params", "floating-point parameters", strange, "cast them with .float()")


def require_randomness_mode(randomness: str) -> None:
    """ValueError for another value than "error" and "different"."""
    require(
        randomness in ("error", "different"),
        "per_sample_grad",
        'randomness "error" or "different"',
        randomness,
        'use "different": each sample draws its own dropout mask',
    )


def checked_loss(loss_fn: LossFn) -> LossFn:
    """``loss_fn``, which from now on has to return a scalar."""

    def scalar_loss(params: Tensors, *sample: Any) -> Tensor:
        loss = loss_fn(params, *sample)
        require(
            isinstance(loss, Tensor) and loss.dim() == 0,
            "loss_fn",
            "a scalar: the loss of one sample",
            tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__,
            "reduce it, for example with .sum() or .mean() over the positions of the sample",
        )
        return loss

    return scalar_loss


def checked_losses(loss_fn: LossFn, size: int) -> LossFn:
    """``loss_fn`` of a batch of ``size``, which from now on has to return ``[size]`` losses."""

    def losses_of(params: Tensors, *batch: Any) -> Tensor:
        losses = loss_fn(params, *batch)
        require(
            isinstance(losses, Tensor) and losses.shape == (size,),
            "batched",
            f"the losses of {size} samples, of shape ({size},)",
            tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__,
            'reduce each sample on its own: reduction="none", then .sum(1) or .mean(1)',
        )
        return losses

    return losses_of
