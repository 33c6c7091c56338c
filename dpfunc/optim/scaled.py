"""Scale, then privatise: noise in the units that an adaptive optimiser divides by.

Adam divides gradients by how large they are, and the noise that is equal in all coordinates with
them: small ones drown. Here gradients are scaled first, then clipped and made noisy, then scaled
back (Ganesh, McMahan and Thakurta 2025, arXiv:2507.01129, compare it with the alternatives). Scales
of rows times columns, those of Adafactor, keep the factored engine fast: the gradient of a linear
layer stays a product.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.clipping.rules import ClipPerLayer
from dpfunc.persample.definition.loss import Batched
from dpfunc.step.microbatch import Aux
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import State, Tensors


def row_column_scales(squares: Tensors, *, floor: float) -> Tensors:
    """``1 / sqrt(second moments)`` as a product of rows and columns: of the shapes of ``squares``.

    ``squares``: averages of squared *private* gradients, such as Adafactor or Adam keep; made of
    anything else that saw the data, they would leak it. ``floor``: added to them, a positive
    number about the variance of their noise: less would follow the noise. Each scale is normed to a
    root mean square of 1 over all parameters, so that a clipping norm keeps its meaning.

    A matrix ``[out, in]`` has ``1 / sqrt(r_i c_j / mean(r))`` with r, c the means over its rows and
    columns (Shazeer and Stern 2018, arXiv:1804.04235); more axes count as columns; vectors have
    their mean.

    >>> import torch
    >>> row_column_scales({"w": torch.tensor([[1.0, 1.0], [4.0, 4.0]])}, floor=1e-9)["w"][:, 0]
    tensor([1.2649, 0.6325])
    """
    require(is_real(floor) and floor > 0, "row_column_scales", "floor > 0", floor, "use 1e-8")
    scales = {name: _scale(square, floor) for name, square in squares.items()}
    total = sum(float(scale.double().square().sum()) for scale in scales.values())
    size = sum(scale.numel() for scale in scales.values())
    norm = (total / max(1, size)) ** 0.5
    return {name: scale / norm for name, scale in scales.items()}


def _scale(square: Tensor, floor: float) -> Tensor:
    known = square.clamp(min=0) + floor
    if square.dim() < 2:
        return known.mean().rsqrt().expand(square.shape).clone()
    flat = known.flatten(1)
    rows, columns = flat.mean(1, keepdim=True), flat.mean(0, keepdim=True)
    return (rows.mean() / (rows * columns)).sqrt().view(square.shape)


def with_budgets(
    params: Tensors, max_norms: Mapping[str, float], budgets: Mapping[str, float]
) -> tuple[ClipPerLayer, Tensors]:
    """A clip rule and scales for `scaled_update`: each parameter with a norm and noise of its own.

    Parameter k is clipped to ``max_norms[k]``, and its noise has the deviation ``s budgets[k]
    sqrt(sum_j (max_norms[j] / budgets[j])**2)`` at noise multiplier s, over the expected batch size
    (He et al. 2023, arXiv:2212.01539). Equal budgets are `ClipPerLayer`; budgets equal to the norms
    give each parameter noise in proportion to its own norm.

    Guarantee: that of ``scaled_update(private, ..., scales)`` with ``private.clip`` this rule, at
    any budgets: scaled by ``1 / budgets[k]`` the sum is `ClipPerLayer`'s, of the bound that its
    noise is made for, and scaling back is post-processing.

    ValueError where a parameter has no norm or budget, or one that is not positive.

    >>> import torch
    >>> params = {"w": torch.zeros(2), "b": torch.zeros(1)}
    >>> norms = {"w": 1.0, "b": 0.1}
    >>> clip, scales = with_budgets(params, norms, budgets=norms)
    >>> clip.max_norm, scales["b"]
    ({'w': 1.0, 'b': 1.0}, tensor([10.]))
    """
    for name, numbers in (("max_norms", max_norms), ("budgets", budgets)):
        require(
            numbers.keys() == params.keys()
            and all(is_real(value) and 0 < value < math.inf for value in numbers.values()),
            "with_budgets",
            f"finite {name} above 0 for {sorted(params)}",
            dict(numbers),
            "name every parameter",
        )
    clip = ClipPerLayer({name: max_norms[name] / budgets[name] for name in params})
    scales = {n: torch.full_like(p.detach(), 1 / budgets[n]) for n, p in params.items()}
    return clip, scales


def scaled_update(
    private: PrivateGrad,
    params: Tensors,
    batch: Any,
    state: State,
    scales: Tensors,
    mask: Tensor | None = None,
) -> tuple[Tensors, State, Aux]:
    """`PrivateGrad.update` of ``scales * gradient``, divided by the scales again.

    Clipping and noise are in the units of the scaled gradient: ``private.clip`` bounds the norm of
    ``scales * gradient``, and the noise of a coordinate is divided by its scale. It is the gradient
    in the variables ``q = params / scales``.

    Guarantee: that of ``private``, where the scales are made of earlier releases and public numbers
    alone: the sum of a step then depends on data and earlier releases, as `PrivateGrad` assumes,
    and dividing is post-processing. Under `CorrelatedNoise` noise is then taken back in the units
    of the step before: all the more as the scales are steady, at equal privacy.

    ``scales``: of the names and shapes of ``params``, positive and finite; else ValueError.
    """
    for name, param in params.items():
        scale = scales.get(name)
        require(
            isinstance(scale, Tensor)
            and scale.shape == param.shape
            and bool(((scale > 0) & scale.isfinite()).all()),
            "scaled_update",
            f"positive scales of shape {tuple(param.shape)} for {name!r}",
            None if scale is None else tuple(scale.shape),
            "use row_column_scales of an average of squared private gradients",
        )
    loss_fn = private.loss_fn

    def of_scaled(own: Tensors, *sample: Any) -> Tensor:
        return loss_fn({name: value * scales[name] for name, value in own.items()}, *sample)

    whole_batch = isinstance(loss_fn, Batched)  # verified anew: the scales are other operations
    inner = replace(private, loss_fn=Batched(of_scaled) if whole_batch else of_scaled)
    own = {name: param.detach() / scales[name] for name, param in params.items()}
    grads, state, aux = inner.update(own, batch, state, mask)
    return {name: grad / scales[name] for name, grad in grads.items()}, state, aux
