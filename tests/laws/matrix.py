"""What every law is tested over: a new engine, clip rule or noise mechanism joins by one line."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

import dpfunc as dp
from dpfunc.step.private_grad import ENGINES
from dpfunc.types import State, Summed, Tensors
from tests.devices import DEVICES as DEVICES

ENGINE_NAMES = sorted(ENGINES)
MAX_NORM = 0.5
CLIPS = {
    "Clip": dp.Clip(MAX_NORM),
    "AutoClip": dp.AutoClip(MAX_NORM),
    "ClipPerLayer": dp.ClipPerLayer(MAX_NORM),
    "ClipPerLayer by name": dp.ClipPerLayer({"w": 0.3, "b": 0.4, "s": 1e-3}),
}
MICROBATCHES = [None, 1, 3]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
NOISES = {"GaussianNoise": dp.GaussianNoise}
WIDENED = 1 + 2.0**-10  # the sensitivity of a sum as floats compute it, over the bound


def clipped(rule: str, grad: Tensors) -> Tensors:
    """The clipped gradient of one sample by the books: float64, a case a rule, no library code."""
    grad = {name: value.double() for name, value in grad.items()}
    norm = torch.stack([value.square().sum() for value in grad.values()]).sum().sqrt()
    if not norm.isfinite():
        return {name: torch.zeros_like(value) for name, value in grad.items()}
    if rule == "AutoClip":
        return {name: value * MAX_NORM / (norm + 0.01) for name, value in grad.items()}
    if rule == "Clip":
        return {name: value * min(1.0, MAX_NORM / max(norm, 1e-30)) for name, value in grad.items()}
    bounds = {"w": 0.3, "b": 0.4, "s": 1e-3}
    if rule == "ClipPerLayer":
        bounds = dict.fromkeys(grad, MAX_NORM / len(grad) ** 0.5)
    return {
        name: value * min(1.0, bounds[name] / max(value.square().sum().sqrt(), 1e-30))
        for name, value in grad.items()
    }


class Setting(NamedTuple):
    """A small problem with a matrix, a vector and a scalar parameter, and six samples."""

    params: Tensors
    x: Tensor
    y: Tensor


def setting(dtype: torch.dtype, device: str) -> Setting:
    def draw(name: str, *shape: int) -> Tensor:
        values = dp.normal(dp.fold_in(dp.key(1), name), shape, dtype=torch.float64)
        return values.to(dtype=dtype, device=device)

    params = {"w": draw("w", 3, 4), "b": draw("b", 3), "s": draw("s")}
    return Setting(params, draw("x", 6, 4), draw("y", 6, 3))


def loss_fn(params: Tensors, x: Tensor, y: Tensor) -> Tensor:
    """Grows with the square of the data, so that huge data make huge gradients."""
    return ((params["w"] @ x + params["b"]) * params["s"] - y).square().sum()


class Recorder:
    """A noise stage that adds none and keeps what it was given, at full precision."""

    def __init__(self) -> None:
        self.seen: list[Summed] = []

    def init(self, params: Tensors) -> State:
        return {}

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        self.seen.append(summed)
        return summed.values, state

    def event(self, state: State, *, sample_rate: float) -> None:
        raise NotImplementedError("a recorder protects nothing")


def expected_distinct(draws: int, deviation: float) -> tuple[float, float]:
    """How many different whole numbers a rounded normal of this deviation gives in ``draws``.

    With the standard deviation of that number, from above: one seen makes others less likely.
    """
    whole = np.arange(-6 * math.ceil(deviation), 6 * math.ceil(deviation) + 1)
    chance = stats.norm.pdf(whole / deviation) / deviation
    seen = -np.expm1(draws * np.log1p(-chance))
    return float(seen.sum()), float((seen * (1 - seen)).sum() ** 0.5)


def flat(values: Tensors) -> Tensor:
    """All values as one float64 vector on the CPU, parameters in the order of their names."""
    return torch.cat([values[name].double().cpu().flatten() for name in sorted(values)])
