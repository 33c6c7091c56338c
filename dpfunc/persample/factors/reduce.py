"""Norms and weighted sums of per-sample gradients, dense or factored alike."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.persample.factors.forms import Dense, Factored
from dpfunc.persample.factors.precision import full_precision
from dpfunc.types import Summed, Tensors, Weights

PerSample = Mapping[str, Tensor | Factored]
"""``{name: [B, *shape] or a Factored}``: the gradients of a batch, not private."""


def leaf_norms(grads: PerSample) -> Tensors:
    """The L2 norm of each sample's gradient, parameter by parameter: ``{name: [B]}``. Not private.

    Half-precision gradients are squared and summed in float32. A norm that overflows is infinite,
    and a clip rule gives such a sample weight zero.

    >>> import torch
    >>> leaf_norms({"w": torch.tensor([[3.0, 4.0], [0.0, 0.0]])})
    {'w': tensor([5., 0.])}
    """
    with full_precision():
        return {name: _as_factored(grad).norm_sq().sqrt() for name, grad in grads.items()}


def global_norm(norms: Tensors) -> Tensor:
    """The L2 norm of each sample's whole gradient, ``[B]``, from its `leaf_norms`. Not private.

    >>> import torch
    >>> global_norm({"w": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor([5.])
    """
    require(len(norms) > 0, "global_norm", "at least one parameter", {}, "pass leaf_norms(grads)")
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms.values())), dim=0)
    return norm


def weighted_sum(grads: PerSample, weights: Weights) -> Summed:
    """``sum_i weights[name][i] * grads[name][i]`` over the batch, with its sensitivity.

    Guarantee: with the weights of a clip rule, adding or removing one sample moves the result by at
    most ``weights.bound`` in L2 norm over all parameters together: a weighted per-sample gradient
    has at most that norm, and the sum is linear. A sample of weight zero adds exactly zero.
    The result is not private until noise is added. ValueError where the names do not match: a
    parameter without weights would go unclipped.

    | case | result |
    |---|---|
    | ``B == 0`` | zeros |
    | weight 0, gradient NaN or infinite | that sample adds zero |

    >>> import torch
    >>> w = Weights({"w": torch.tensor([1.0, 0.5])}, bound=1.0)
    >>> weighted_sum({"w": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}, w).values
    {'w': tensor([1., 1.])}
    """
    require(
        isinstance(weights, Weights),
        "weighted_sum",
        "Weights from a clip rule",
        type(weights).__name__,
        "pass Clip(max_norm).weights(leaf_norms(grads), {}) or build dpfunc.types.Weights",
        error=TypeError,
    )
    require(
        grads.keys() == weights.values.keys(),
        "weighted_sum",
        f"weights for exactly the parameters {sorted(grads)}",
        sorted(weights.values),
        "compute the weights from leaf_norms of these same gradients",
    )
    with full_precision():
        values = {
            name: _as_factored(grad).weighted_sum(weights.values[name])
            for name, grad in grads.items()
        }
    return Summed(values, weights.bound)


def _as_factored(grad: Tensor | Factored) -> Factored:
    return Dense(grad) if isinstance(grad, Tensor) else grad
