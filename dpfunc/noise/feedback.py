"""Noise that takes back earlier noise, rounded inside the recursion: private to the last bit.

Rounding the noise of a matrix and adding it does not protect at all: ``C^-1`` moves the lattice of
the first step's noise by the data (docs/correlated.md). Here, with R the sum on a fine grid and v
real normals,

    n_t = y_t - R_t,   a_t = sum_{i >= 1} c_i n_{t-i},   y_t = round(R_t - a_t + v_t),

rounded to the coarse grid of an independent release. As ``R_t - a_t`` is ``(C R)_t - sum_{i >= 1}
c_i y_{t-i}``, y is a function of ``C R + v`` step by step: post-processing of the Gaussian
mechanism of real numbers. That rests on ``R_t - a_t`` being exact: noise is whole numbers of the
fine grid, c multiples of a power of two, and `scales` refuses what float64 would round.

The buffers of a `Buffered` strategy have no finite digits. What float64 gets wrong there is charged
to the sensitivity (`rounding_of_buffers`).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.noise import feedback_by_numba as by_numba
from dpfunc.noise.kernels.by_numba import available
from dpfunc.noise.lattice import release_, spacing
from dpfunc.random.keys import Key, runs
from dpfunc.strategies.records import Buffered, Toeplitz
from dpfunc.strategies.sensitivity import column_norm
from dpfunc.strategies.series import quotient
from dpfunc.types import Tensors

SHARE = 2.0**-10  # of the bound: for float sums, for the fine grid, and for buffers, each
_FAR = 40.0  # deviations; noise is farther out with probability e**-800
_DIGITS = 2.0**53
_MOST_BITS = 30

Memory = list[Tensors]  # the last noise, newest first; or the buffers


@dataclass(frozen=True)
class Scales:
    """Public numbers of a run: they depend on the bound and the number of parameters alone."""

    deviation: float  # of v
    fine: float  # the grid of R and of the noise
    coarse: float  # the grid of what is released: a multiple of it
    most: float  # how far the noise of a step may be out, in units of the fine grid

    @property
    def whole(self) -> torch.dtype:
        """Of whole numbers up to ``most``."""
        return torch.int32 if self.most < 2**31 - 1 else torch.int64


@lru_cache(maxsize=16)
def scales(
    strategy: Toeplitz | Buffered, noise_multiplier: float, bound: float, items: int
) -> Scales:
    """Those of a run, or ValueError where float64 could not hold its numbers.

    The fine grid is at most ``2**-10 bound / sqrt(items)``: rounding two sums to it moves them
    apart by at most ``2**-10 bound``. The deviation is the noise multiplier times the norm of a
    column of C times the bound, widened by `SHARE` for each of the errors that there are.
    """
    errors = 2 if isinstance(strategy, Toeplitz) else 3
    widened = bound * (1 + errors * SHARE)
    deviation = noise_multiplier * column_norm(strategy) * widened
    coarse = spacing(deviation)
    fine = min(coarse, 2.0 ** math.floor(math.log2(SHARE * bound / math.sqrt(max(1, items)))))
    impulse = np.zeros(strategy.steps)
    impulse[0] = 1.0
    inverse = quotient(impulse, strategy.column())
    norm, total = math.sqrt(float(np.sum(inverse**2))), float(np.sum(np.abs(inverse)))
    most = 1.001 * (_FAR * deviation * norm + coarse * total) / fine
    found = Scales(deviation, fine, coarse, most)
    if isinstance(strategy, Toeplitz):
        _require_digits(strategy, found)
    else:
        error = rounding_of_buffers(strategy, found, bound)
        require(
            2 * error * math.sqrt(items * strategy.steps) <= SHARE * bound,
            "CorrelatedNoise",
            "buffers whose rounding in float64 costs less than 2**-10 of the sensitivity",
            f"{2 * error * math.sqrt(items * strategy.steps) / bound:.2e} of it",
            "make the strategy with faster decays, for fewer steps or fewer parameters, or use "
            "dpfunc.correlated.banded or fractional",
        )
    return found


def _require_digits(strategy: Toeplitz, found: Scales) -> None:
    """``R_t - a_t`` has to be exact: multiples of the last bit of c, with at most 53 digits."""
    m = next((m for m in range(_MOST_BITS) if _are_whole(strategy, 2.0**m)), _MOST_BITS)
    require(
        m < _MOST_BITS,
        "CorrelatedNoise",
        "coefficients that are multiples of a power of two of at least 2**-29",
        "others",
        "make the strategy with bits=16, the default, and not with bits=None",
    )
    largest = found.most * math.fsum(map(abs, strategy.coefficients)) + found.coarse / found.fine
    require(
        found.most < 2**52 and largest * 2.0**m <= _DIGITS,
        "CorrelatedNoise",
        f"noise and coefficients whose products have at most 53 bits, {m} of them in coefficients",
        f"{math.log2(largest) + m:.1f} bits",
        "make the strategy with a smaller bits=, 12 at least, or lower the noise multiplier",
    )


def _are_whole(strategy: Toeplitz, times: float) -> bool:
    return all((c * times).is_integer() for c in strategy.coefficients)


def rounding_of_buffers(strategy: Buffered, found: Scales, bound: float) -> float:
    """How far the computed ``R_t - a_t`` may be from the real one, in the units of the bound.

    With noise up to N (that of either data set: `_FAR` deviations and two bounds) a buffer is at
    most ``N / (1 - theta)``. A step rounds it twice, by ``2**-53`` of itself each, and what is
    wrong fades as it does: ``2**-52 N / (1 - theta)**2``. The weights add up to at most 1; products
    and sums of d of them ``2 d 2**-53``, and the difference from R one rounding more.
    """
    most = found.most * found.fine + 2 * bound
    slowest, count = 1 - max(strategy.decays), len(strategy.decays)
    buffers = most * 2.0**-52 * (1 + count * slowest) / slowest**2
    return 1.001 * buffers + 2.0**-53 * (most / slowest + found.coarse)


def release(
    values: Tensors, memory: Memory, strategy: Toeplitz | Buffered, found: Scales, key: Key
) -> tuple[Tensors, Tensors]:
    """What is released, and its noise in whole numbers of the fine grid, flat.

    ``values``: float32 or float64, contiguous. ``key``: of this step's normals alone.
    """
    parts = {name: value.reshape(-1) for name, value in values.items()}
    if isinstance(strategy, Toeplitz) and all(_is_compiled(part) for part in parts.values()):
        return _compiled(parts, values, memory, strategy, found, key)
    step = found.coarse / found.fine
    wanted = {}
    for name, part in parts.items():
        wanted[name] = torch.empty(part.shape, dtype=torch.float64, device=part.device)
        for run in runs(part.numel(), part.device):
            _, low = _split(part[run], found.fine, step)
            back = _taken_back(strategy, memory, name, run)
            wanted[name][run] = (low if back is None else low.sub_(back)).mul_(found.fine)
    noisy = release_(wanted, key, deviation=found.deviation)
    released, noise = {}, {}
    for name, part in parts.items():
        out = torch.empty_like(part)
        kept = torch.empty(part.shape, dtype=found.whole, device=part.device)
        for run in runs(part.numel(), part.device):
            high, low = _split(part[run], found.fine, step)
            whole = noisy[name][run].mul_(1 / found.fine)  # exact: powers of two
            own = whole - low
            _require_near(own, found)
            kept[run] = own.to(found.whole)
            # Adding 0 makes -0 to 0: its sign would tell of the sum.
            out[run] = whole.add_(high).add_(0.0).mul_(found.fine).to(out.dtype)
        released[name], noise[name] = out.view(values[name].shape), kept
    return released, noise


def _is_compiled(part: Tensor) -> bool:
    return part.device.type == "cpu" and available()


def _compiled(
    parts: Tensors,
    values: Tensors,
    memory: Memory,
    strategy: Toeplitz,
    found: Scales,
    key: Key,
) -> tuple[Tensors, Tensors]:
    """`release` by compiled passes."""
    settings = by_numba.settings_of(found.fine, found.coarse)
    wanted = {
        name: by_numba.taken_back(
            part, [before[name] for before in memory], strategy.coefficients[1:], settings
        )
        for name, part in parts.items()
    }
    noisy = release_(wanted, key, deviation=found.deviation)
    released, noise = {}, {}
    for name, part in parts.items():
        out, noise[name], beyond = by_numba.told_apart(
            part, noisy[name], found.whole, found.most, settings
        )
        _require_none(beyond)
        released[name] = out.view(values[name].shape)
    return released, noise


def remembered(strategy: Toeplitz | Buffered, memory: Memory, noise: Tensors) -> Memory:
    """The memory after a step with this noise; what was there stays as it is."""
    if isinstance(strategy, Toeplitz):
        return [noise, *memory][: strategy.bands - 1]
    after = []
    for j, theta in enumerate(strategy.decays):
        new = {name: kept.to(torch.float64) for name, kept in noise.items()}
        if memory:
            new = {name: memory[j][name] * theta + kept for name, kept in new.items()}
        after.append(new)
    return after


def _split(sums: Tensor, fine: float, step: float) -> tuple[Tensor, Tensor]:
    """R in units of the fine grid: its multiple of the coarse grid, and the rest.

    What is not finite is all in the first, and released as it is.
    """
    rounded = sums.to(torch.float64).mul(1 / fine).round_()
    high = rounded.mul(1 / step).round_().mul_(step)
    return high, rounded.sub_(high).nan_to_num_(nan=0.0)


def _taken_back(
    strategy: Toeplitz | Buffered, memory: Memory, name: str, run: slice
) -> Tensor | None:
    """``a_t`` in units of the fine grid; None where there is none yet."""
    if isinstance(strategy, Toeplitz):
        weights: tuple[float, ...] = strategy.coefficients[1:]
    else:
        weights = strategy.weights
    back: Tensor | None = None
    for weight, before in zip(weights, memory, strict=False):
        share = before[name][run].to(torch.float64) * weight
        back = share if back is None else back.add_(share)
    return back


def _require_near(noise: Tensor, found: Scales) -> None:
    if noise.device.type != "meta" and noise.numel() > 0:
        _require_none(int((noise.abs() > found.most).sum()))


def _require_none(beyond: int) -> None:
    if beyond > 0:
        raise RuntimeError(
            "CorrelatedNoise: noise beyond 40 deviations, which has probability e**-800: the "
            "memory in the state is not the one that this run left. Nothing was released."
        )
