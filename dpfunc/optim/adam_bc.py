"""DP-AdamBC: Adam whose second moments are without the noise's own share.

The square of a private gradient has on average the square of the signal, and the variance of the
noise, which is public and often a hundred times larger. Adam then divides by the noise: it is SGD
with momentum. Tang, Shpilevskiy and Lecuyer 2023 (arXiv:2312.14334) take the variance off.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dpfunc.checks import is_real, require
from dpfunc.types import State, Tensors


def adam_bc_init(params: Tensors) -> State:
    """The state before the first step of `adam_bc`."""
    zeros = {name: torch.zeros_like(value) for name, value in params.items()}
    squares = {name: torch.zeros_like(value) for name, value in params.items()}
    return {"step": 0, "first": zeros, "second": squares, "noise": 0.0}


def adam_bc(
    grads: Tensors,
    state: State,
    *,
    lr: float,
    deviation: float,
    betas: tuple[float, float] = (0.9, 0.999),
    floor: float = 1e-8,
) -> tuple[Tensors, State]:
    """What to add to the parameters, and the next state: plain Adam for ``deviation=0``.

    ``deviation``: of the noise in each number of ``grads``, a constant or another one in each step:
    ``noise.deviation(state["noise"])`` of `CorrelatedNoise` after `PrivateGrad.update`. With m, v
    and phi the averages of gradients, their squares and ``deviation**2``, all over ``1 - beta**t``,
    the update is ``-lr m / sqrt(max(v - phi, floor))``. ``floor``: of what the noise's variance
    leaves, often below 0; about the square of the least gradient that counts.

    Guarantee: post-processing of private gradients and public numbers.

    >>> params = {"w": torch.zeros(2)}
    >>> state = adam_bc_init(params)
    >>> step, state = adam_bc({"w": torch.tensor([3.0, -1.0])}, state, lr=0.1, deviation=0.0)
    >>> step["w"]
    tensor([-0.1000,  0.1000])
    """
    _require("adam_bc", lr, deviation, betas, floor)
    t, (beta1, beta2) = state["step"] + 1, betas
    noise = beta2 * state["noise"] + (1 - beta2) * deviation**2
    first, second, steps = {}, {}, {}
    for name, grad in grads.items():
        first[name] = torch.lerp(state["first"][name], grad, 1 - beta1)
        second[name] = torch.lerp(state["second"][name], grad * grad, 1 - beta2)
        signal = (second[name] - noise).div_(1 - beta2**t).clamp_(min=floor)
        steps[name] = first[name] / signal.sqrt_() * (-lr / (1 - beta1**t))
    return steps, {"step": t, "first": first, "second": second, "noise": noise}


class AdamBC(torch.optim.Optimizer):
    """`adam_bc` as an optimizer of `torch.optim`. Set ``deviation`` before each step if it changes.

    ``deviation``: of the noise in each number of ``.grad``. With `PrivacyEngine` and independent
    noise it is ``noise_multiplier * max_grad_norm / batch_size``; with a strategy another one in
    each step, which ``noise.deviation`` says. ValueError for numbers that are none.

    Guarantee: post-processing.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = AdamBC([weight], lr=0.1, deviation=0.0)
    >>> weight.grad = torch.tensor([3.0, -1.0])
    >>> optimizer.step()
    >>> weight.data
    tensor([-0.1000,  0.1000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        deviation: float,
        betas: tuple[float, float] = (0.9, 0.999),
        floor: float = 1e-8,
    ) -> None:
        _require("AdamBC", lr, deviation, betas, floor)
        defaults = {"lr": lr, "deviation": deviation, "betas": tuple(betas), "floor": floor}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken
        """One step. A closure is refused: a private gradient is made once."""
        require(closure is None, "AdamBC", "step() without a closure", closure, "compute it before")
        for group in self.param_groups:
            options = {name: group[name] for name in ("lr", "deviation", "betas", "floor")}
            for param in group["params"]:
                if param.grad is None:
                    continue
                own = self.state[param]
                if not own:
                    own.update(adam_bc_init({"": param}))
                before = {k: _named(v) for k, v in own.items()}
                steps, after = adam_bc({"": param.grad}, before, **options)
                param.add_(steps[""])
                own.update({k: _unnamed(v) for k, v in after.items()})


def _named(value: Any) -> Any:
    return {"": value} if isinstance(value, Tensor) else value


def _unnamed(value: Any) -> Any:
    return value[""] if isinstance(value, dict) else value


def _require(
    subject: str, lr: float, deviation: float, betas: tuple[float, float], floor: float
) -> None:
    numbers = {"lr": lr, "deviation": deviation, "floor": floor}
    for name, value in numbers.items():
        least = 0 if name != "floor" else 1e-30
        require(
            is_real(value) and least <= value < math.inf,
            subject,
            f"a finite {name} >= {least:g}",
            value,
            "the deviation is that of the noise in each number of the gradient",
        )
    require(
        len(betas) == 2 and all(is_real(beta) and 0 <= beta < 1 for beta in betas),
        subject,
        "two betas from 0 to below 1",
        betas,
        "use (0.9, 0.999)",
    )
