"""A release with a sum of several real normals an item, correctly rounded: nothing to remember.

``grid * round(S / grid + scale * sum_i d_i Z_i)``, each Z_i from a stream of its own in the format
of a release (`format.py`). As in `by_torch.py` single precision decides nearly all items, with its
bound for each of the normals; cells of the words decide those that it leaves open, and interval
arithmetic with further bits the few that are left.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpfunc.noise.kernels.by_torch import BOUND, MOST_SQUARE, radii, require_accurate, waves
from dpfunc.noise.kernels.deciding import Floats, Wholes, cells
from dpfunc.noise.kernels.flat import Piece, read, runs_of_groups, write
from dpfunc.noise.kernels.format import (
    ANGLE_BITS,
    GROUP,
    PAIRS,
    RADIUS_BITS,
    Streams,
    further_words,
    pair_words,
)
from dpfunc.random.exact import LazyUniform, exact_floor
from dpfunc.random.keys import fold_in

_RUN = {"cpu": 2**4}
_DEVICE_RUN = 2**11
SLACK = 2.0**-30  # for sums and products of numbers below 2**20 in float64, thousands of times
_FURTHER_BITS = 256

Words = list[tuple[Tensor, Tensor]]


def release_combined(
    pieces: list[Piece],
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
    grid: float,
) -> None:
    """Release items of one device in place; ``weights[i]`` times the normal of ``keys[i]``."""
    device = pieces[0].items.device
    if device.type != "meta":
        require_accurate(device)
    for run, here in runs_of_groups(pieces, _RUN.get(device.type, _DEVICE_RUN)):
        sums = read(here, run.start * GROUP, run.stop * GROUP).to(torch.float64)
        sums = sums.view(len(run), 2, PAIRS)
        noisy = _released(sums, run, keys, weights, scale, grid)
        write(here, run.start * GROUP, noisy.view(-1))


def _released(
    sums: Tensor,
    run: range,
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
    grid: float,
) -> Tensor:
    whole = sums.mul(1 / grid).round_()  # exact: the grid is a power of two
    offset = sums.mul(1 / grid).sub_(whole).nan_to_num_(nan=0.0)
    real = offset.clone()
    error = torch.full((len(run), PAIRS), SLACK, dtype=torch.float64, device=sums.device)
    small, large = (2.0**-24 * scale * factor for factor in BOUND)
    words: Words = []
    for key, weight in zip(keys, weights, strict=True):
        words.append(pair_words(key.words, run, sums.device))
        square, radius = radii(words[-1][0])
        reach = radius.mul(scale)
        for side, wave in enumerate(waves(words[-1][1])):
            signs = (words[-1][1] << side).view(torch.float32)
            real[:, side] += wave.mul_(reach).copysign_(signs).to(torch.float64).mul_(weight)
        bound = square.mul(large).add_(small).div_(radius).to(torch.float64).mul_(abs(weight))
        # U that rounds to 1 has a radius of -0, whose bound would be -inf.
        is_proven = (square > 0).logical_and_(square < MOST_SQUARE)
        error += bound.masked_fill_(is_proven.logical_not_(), math.inf)
    nearest = real.round()
    decided = (real - nearest).abs_() + error.unsqueeze(1) * (1 + 2.0**-20) < 0.5
    if sums.device.type != "meta":
        _decide(nearest, offset, ~decided, words, run.start, keys, weights, scale)
    return whole.add_(nearest).add_(0.0).mul_(grid)  # adding 0 makes -0 to 0


def _decide(
    nearest: Tensor,
    offset: Tensor,
    unsure: Tensor,
    words: Words,
    first_group: int,
    keys: Sequence[Streams],
    weights: Sequence[float],
    scale: float,
) -> None:
    """Write into ``nearest`` what is right for the items that are ``unsure``."""
    group, side, pair = unsure.nonzero(as_tuple=True)
    if len(group) == 0:
        return
    chosen = [
        tuple(part[group, pair].cpu().numpy().astype("int64") % 2**32 for part in both)
        for both in words
    ]
    sides, offsets = side.cpu().numpy(), offset[group, side, pair].cpu().numpy()
    low, high = offsets.copy(), offsets.copy()
    for (radius, angle), weight in zip(chosen, weights, strict=True):
        ends = _ends(radius, angle, sides, scale)
        for end in (low, high):
            best = np.minimum if end is low else np.maximum
            end += best(ends[0] * weight, ends[1] * weight)
    with np.errstate(invalid="ignore"):
        found, known = np.floor(low - SLACK + 0.5), np.floor(high + SLACK + 0.5)
        open_items = np.flatnonzero(~(found == known))
    which = ((group + first_group) * PAIRS + pair).cpu().numpy()
    for i in open_items:
        pairs = [(int(radius[i]), int(angle[i])) for radius, angle in chosen]
        index = int(which[i])
        found[i] = exactly(keys, weights, pairs, index, int(sides[i]), scale, float(offsets[i]))
    nearest[group, side, pair] = torch.from_numpy(found).to(nearest)


def _ends(radius: Wholes, angle: Wholes, sides: Wholes, scale: float) -> tuple[Floats, Floats]:
    """The ends of ``scale`` times the normal, whatever the bits are that were not read."""
    short = radius >> 1, angle & (2**ANGLE_BITS - 1)
    both = cells(*short, (RADIUS_BITS, ANGLE_BITS), angle, scale)
    low, high = (np.where(sides == 0, both[0][end], both[1][end]) for end in (0, 1))
    # U = 0: an infinite radius, and an infinite or undefined end.
    return _told(low, -np.inf), _told(high, np.inf)


def _told(end: Floats, instead: float) -> Floats:
    return np.where(np.isnan(end), instead, end)


def exactly(
    keys: Sequence[Streams],
    weights: Sequence[float],
    pairs: list[tuple[int, int]],
    index: int,
    side: int,
    scale: float,
    offset: float,
) -> float:
    """``floor(scale * sum_i d_i Z_i + offset + 1/2)`` with as many bits as it takes."""
    uniforms = []
    for key, (radius, angle) in zip(keys, pairs, strict=True):
        known = radius >> 1, angle & (2**ANGLE_BITS - 1)
        more = further_words(key.further, index)
        names = ("radius", "angle")
        for first, width, rest, name in zip(
            known, (RADIUS_BITS, ANGLE_BITS), more, names, strict=True
        ):
            leading = first
            for word in rest:
                leading = leading << 64 | word
            own = fold_in(key.rest, name, index)
            uniforms.append(LazyUniform(leading, width + _FURTHER_BITS, own))
    signs = [1 - 2 * (angle >> (31 - side) & 1) for _, angle in pairs]

    def value(context: Any, *uniforms: Any) -> Any:
        total = context.mpf(offset) + context.mpf(0.5)
        for i, (weight, sign) in enumerate(zip(weights, signs, strict=True)):
            u, v = uniforms[2 * i : 2 * i + 2]
            quarter = context.pi * v / 2
            wave = context.sin(quarter) if side else context.cos(quarter)
            normal = context.sqrt(-2 * context.log(u)) * wave
            total += context.mpf(scale) * context.mpf(sign * weight) * normal
        return total

    return float(exact_floor(value, *uniforms))
