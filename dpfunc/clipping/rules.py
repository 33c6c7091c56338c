"""Clip rules: the norms of per-sample gradients in, one weight per sample and parameter out.

Guarantee of every rule: ``sqrt(sum_name (weight[name][i] * norm[name][i])**2) <= bound`` for each
sample i, so a sum of weighted gradients has L2 sensitivity ``bound`` under adding or removing one
sample. A sample with a norm that is not finite gets weight zero in all its parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.clipping.weights import SMALLEST_NORM
from dpfunc.naming import own_fields
from dpfunc.persample.factors.reduce import global_norm
from dpfunc.types import State, Tensors, Weights

_NO_CLIPPING = "use math.inf for no clipping"


def _require_norm(subject: str, value: float, name: str, remedy: str) -> None:
    require(is_real(value) and value > 0, subject, f"{name} > 0", value, remedy)
    require(
        value >= SMALLEST_NORM,
        subject,
        f"{name} >= {SMALLEST_NORM}",
        value,
        "norms are computed in float32, where smaller ones underflow; scale the loss up",
    )


def _shrink(norms: Tensor, max_norm: float) -> Tensor:
    """``min(1, max_norm / norm)``: 1 for a norm of 0, NaN where both are infinite."""
    return (max_norm / norms).clamp(max=1.0)


def _drop_not_finite(weights: Tensor, norms: Tensor) -> Tensor:
    return torch.where(norms.isfinite(), weights, 0.0)


@own_fields("Clip")
@dataclass(frozen=True)
class Clip:
    """Scale each sample's whole gradient down to L2 norm ``max_norm``: ``min(1, max_norm / norm)``.

    Guarantee: L2 sensitivity ``max_norm`` under adding or removing one sample. Abadi et al. 2016
    (arXiv:1607.00133), Algorithm 1.

    | norm of the sample | weight |
    |---|---|
    | 0, or at most ``max_norm`` | 1 |
    | above ``max_norm`` | ``max_norm / norm`` |
    | NaN or infinite | 0 |

    ``max_norm=math.inf`` clips nothing; no noise can protect such a sum, and noise mechanisms
    refuse it.

    >>> import torch
    >>> Clip(1.0).weights({"w": torch.tensor([0.0, 0.5, 2.0, float("nan")])}, {}).values["w"]
    tensor([1.0000, 1.0000, 0.5000, 0.0000])
    """

    max_norm: float

    def __post_init__(self) -> None:
        _require_norm("Clip", self.max_norm, "max_norm", _NO_CLIPPING)

    def init(self) -> State:
        return {}

    def weights(self, norms: Tensors, state: State) -> Weights:
        norm = global_norm(norms)
        weight = _drop_not_finite(_shrink(norm, self.max_norm), norm)
        return Weights(dict.fromkeys(norms, weight), self.max_norm)

    def update(self, norms: Tensors, mask: Tensor, state: State) -> State:
        return state


@own_fields("AutoClip")
@dataclass(frozen=True)
class AutoClip:
    """Normalise each sample's gradient: weight ``max_norm / (norm + stability)``.

    Guarantee: L2 sensitivity ``max_norm`` under adding or removing one sample, since
    ``norm / (norm + stability) < 1``. There is no threshold to tune: ``max_norm`` only rescales the
    learning rate. AUTO-S of Bu, Wang, Zha and Karypis 2023 (arXiv:2206.07136), section 4, which
    takes ``stability=0.01``.

    | norm of the sample | weight |
    |---|---|
    | 0 | ``max_norm / stability`` (of a zero gradient) |
    | NaN or infinite | 0 |

    >>> import torch
    >>> AutoClip(1.0, stability=1.0).weights({"w": torch.tensor([0.0, 3.0])}, {}).values["w"]
    tensor([1.0000, 0.2500])
    """

    max_norm: float
    stability: float = 0.01

    def __post_init__(self) -> None:
        for name, usual in (("max_norm", "1.0"), ("stability", "0.01")):
            value = getattr(self, name)
            _require_norm("AutoClip", value, name, f"use {usual}, as the paper does")
            require(math.isfinite(value), "AutoClip", f"a finite {name}", value, f"use {usual}")

    def init(self) -> State:
        return {}

    def weights(self, norms: Tensors, state: State) -> Weights:
        norm = global_norm(norms)
        weight = _drop_not_finite(self.max_norm / (norm + self.stability), norm)
        return Weights(dict.fromkeys(norms, weight), self.max_norm)

    def update(self, norms: Tensors, mask: Tensor, state: State) -> State:
        return state


@own_fields("ClipPerLayer")
@dataclass(frozen=True)
class ClipPerLayer:
    """Clip each parameter's per-sample gradient to a norm of its own.

    ``max_norm`` is one number, the bound of the whole gradient, of which each of the K parameters
    gets ``max_norm / sqrt(K)``; or a mapping that gives every parameter's own bound by name.

    Guarantee: L2 sensitivity ``sqrt(sum of the squared bounds)`` under adding or removing one
    sample. McMahan et al. 2018 (arXiv:1710.06963), section 2.2 ("per-layer clipping").

    A sample with a NaN or infinite norm in one parameter gets weight 0 in all. Raises ValueError
    where a mapping does not name exactly the parameters that come.

    >>> import torch
    >>> norms = {"w": torch.tensor([6.0]), "b": torch.tensor([1.0])}
    >>> ClipPerLayer({"w": 3.0, "b": 4.0}).weights(norms, {})
    Weights(values={'w': tensor([0.5000]), 'b': tensor([1.])}, bound=5.0)
    """

    max_norm: float | Mapping[str, float]

    def __post_init__(self) -> None:
        if isinstance(self.max_norm, Mapping):
            require(
                len(self.max_norm) > 0,
                "ClipPerLayer",
                "a max_norm for every parameter",
                {},
                "name every parameter, or pass one number for all",
            )
            for name, bound in self.max_norm.items():
                _require_norm(f"ClipPerLayer, {name!r}", bound, "max_norm", _NO_CLIPPING)
        else:
            _require_norm("ClipPerLayer", self.max_norm, "max_norm", _NO_CLIPPING)

    def init(self) -> State:
        return {}

    def weights(self, norms: Tensors, state: State) -> Weights:
        bounds = self._bounds(norms)
        whole = global_norm(norms)
        values = {
            name: _drop_not_finite(_shrink(norm, bounds[name]), whole)
            for name, norm in norms.items()
        }
        return Weights(values, math.hypot(*bounds.values()))

    def update(self, norms: Tensors, mask: Tensor, state: State) -> State:
        return state

    def _bounds(self, norms: Tensors) -> Mapping[str, float]:
        if not isinstance(self.max_norm, Mapping):
            return dict.fromkeys(norms, self.max_norm / math.sqrt(len(norms)))
        require(
            self.max_norm.keys() == norms.keys(),
            "ClipPerLayer",
            f"one max_norm for each of {sorted(norms)}",
            sorted(self.max_norm),
            "name every parameter, or pass one number for all",
        )
        return self.max_norm
