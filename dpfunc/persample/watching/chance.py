"""Dropout in a loss of the whole batch: refused unless asked for, and left out to compare runs."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from dpfunc.persample.watching.capture import require_randomness

_FUNCTIONAL = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
)
_OF_TORCH = [
    getattr(torch, name + mark)
    for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
    for mark in ("", "_")
]
_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)

# Where a function takes its dropout probability, and whether it applies (None: always does).
_DROPOUT: dict[Any, tuple[tuple[int, str], tuple[int, str] | None]] = {
    **dict.fromkeys(_FUNCTIONAL, ((1, "p"), (2, "training"))),
    **dict.fromkeys(_RECURRENT, ((5, "dropout"), (6, "train"))),
    **dict.fromkeys(_OF_TORCH, ((1, "p"), (2, "train"))),
    F.scaled_dot_product_attention: ((4, "dropout_p"), None),
    F.multi_head_attention_forward: ((10, "dropout_p"), (13, "training")),
}
_DEFAULT_P = {"p": 0.5, "dropout_p": 0.0, "dropout": 0.0}
_RANDOM = {
    *("bernoulli", "bernoulli_", "exponential_", "gumbel_softmax", "multinomial", "normal"),
    *("normal_", "poisson", "rand", "rand_like", "randint", "randint_like", "randn"),
    *("randn_like", "random_", "randperm", "rrelu", "rrelu_", "uniform_"),
}
"""Functions by name, which cannot be left out."""


class Chance(TorchFunctionMode):
    """Inside, random operations are refused (``"error"``), or dropout is left out (``"none"``)."""

    def __init__(self, mode: Literal["error", "none"]) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._mode == "error" and name in _RANDOM and not _is_idle(name, args, kwargs):
            require_randomness("error", 1.0, func.__name__)
        if func in _DROPOUT:
            probability, applies = _DROPOUT[func]
            p = _given(args, kwargs, probability, _DEFAULT_P[probability[1]])
            active = p > 0 and (applies is None or _given(args, kwargs, applies, True))
            if active and self._mode == "error":
                require_randomness("error", p, func.__name__)
            if active:
                args, kwargs = _with_zero(args, kwargs, probability)
        return func(*args, **kwargs)


def _is_idle(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the function draws nothing: RReLU outside of training has one slope."""
    return name == "rrelu" and not _given(args, kwargs, (3, "training"), or_=False)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any], where: tuple[int, str], or_: Any) -> Any:
    place, name = where
    return args[place] if len(args) > place else kwargs.get(name, or_)


def _with_zero(
    args: tuple[Any, ...], kwargs: dict[str, Any], where: tuple[int, str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    place, name = where
    if len(args) > place:
        return (*args[:place], 0.0, *args[place + 1 :]), kwargs
    return args, {**kwargs, name: 0.0}
