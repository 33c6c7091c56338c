"""A release by torch operations, on any device: single precision decides nearly all of it.

What `dpfunc.noise.lattice.release_` promises, run by run of groups. `BOUND` says which numbers
single precision may decide; docs/randomness.md proves it.
"""

import math
from functools import cache

import torch
from torch import Tensor

from dpfunc.noise.kernels.deciding import Pairs, decided
from dpfunc.noise.kernels.flat import Piece, read, runs_of_groups, write
from dpfunc.noise.kernels.format import GROUP, PAIRS, Streams, pair_words

BOUND = (3.0, 14.0)
"""``|computed - real| <= 2**-24 scale (3 / r + 14 r)`` of ``scale * Z + f``, r the radius."""

MOST_SQUARE = 18.0  # of the radius, up to which `BOUND` is proven
_RUN = {"cpu": 2**5}  # groups at a time: their temporaries stay in the cache
_DEVICE_RUN = 2**12


def release_by_torch(pieces: list[Piece], keys: Streams, scale: float, grid: float) -> None:
    """Release the items of ``pieces`` in place: see `dpfunc.noise.lattice.release_`."""
    device = pieces[0].items.device
    if device.type != "meta":
        require_accurate(device)
    for run, here in runs_of_groups(pieces, _RUN.get(device.type, _DEVICE_RUN)):
        sums = read(here, run.start * GROUP, run.stop * GROUP).view(len(run), 2, PAIRS)
        write(here, run.start * GROUP, _released(sums, run, keys, scale, grid).view(-1))


def _released(sums: Tensor, run: range, keys: Streams, scale: float, grid: float) -> Tensor:
    """``grid * round(sums / grid + scale * Z)`` of whole groups: ``[groups, 2, PAIRS]``."""
    words = pair_words(keys.words, run, sums.device)
    square, radius = radii(words[0])
    whole = sums.mul_(1 / grid).round()  # exact: the grid is a power of two
    offset = sums.sub_(whole).nan_to_num_(nan=0.0)  # infinite sums stay what they are
    reach, gaps = radius.mul(scale), []
    nearest = torch.empty(sums.shape, dtype=torch.float32, device=sums.device)
    for side, wave in enumerate(waves(words[1])):
        signs = (words[1] << side).view(torch.float32)
        real = wave.mul_(reach).copysign_(signs).add_(offset[:, side])
        torch.round(real, out=nearest[:, side])
        gaps.append(real.sub_(nearest[:, side]).abs_())
    room = torch.maximum(*gaps).neg_().add_(0.5).mul_(radius)
    small, large = (2.0**-24 * scale * factor for factor in BOUND)
    unsure = (
        (room > square.mul(large).add_(small)).logical_and_(square < MOST_SQUARE).logical_not_()
    )
    if sums.device.type != "meta":
        _decide(nearest, offset, unsure, words, run.start, keys, scale)
    # Adding 0 makes -0 to 0: its sign would be that of the sum, and tell of it.
    return whole.add_(nearest).add_(0.0).mul_(grid)


@cache
def require_accurate(device: torch.device) -> None:
    """Once a device: its elementary functions are what `BOUND` was proven for, on many words."""
    words = torch.arange(0, 2**32, 2**16 - 1).to(torch.int32)
    square, radius = (part.cpu().to(torch.float64) for part in radii(words.to(device)))
    own = [wave.cpu().to(torch.float64) for wave in waves(words.to(device))]
    uniform = ((words >> 1).bitwise_and(2**31 - 1).to(torch.float64) + 0.5) * 2.0**-31
    quarter = ((words & (2**30 - 1)).to(torch.float64) + 0.5) * (math.pi * 2.0**-31)
    exact = (uniform.log() * -2).sqrt()
    off = (radius - exact).abs() * radius <= 2.0**-24 * (2 + 5 * square)
    waves_off = torch.stack([own[0] - quarter.cos(), own[1] - quarter.sin()]).abs()
    counts = (square < MOST_SQUARE) & (radius > 0)
    if not bool((off | ~counts).all() and (waves_off <= 4 * 2.0**-24).all()):
        raise RuntimeError(
            f"dpfunc: logarithm, cosine or sine of float32 are too inexact on {device} for noise "
            "that is rounded correctly; compute on another device, and report it."
        )


def radii(words: Tensor) -> tuple[Tensor, Tensor]:
    """The squares of the radii of these words and the radii, in float32."""
    uniform = (words >> 1).bitwise_and_(2**31 - 1).to(torch.float32).add_(0.5).mul_(2.0**-31)
    square = uniform.log_().mul_(-2.0)
    return square, square.sqrt()


def waves(words: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the quarter angles of these words, without their signs, in float32."""
    quarter = (words & (2**30 - 1)).to(torch.float32).add_(0.5).mul_(math.pi * 2.0**-31)
    return quarter.cos(), quarter.sin_()


def _decide(
    nearest: Tensor,
    offset: Tensor,
    unsure: Tensor,
    words: tuple[Tensor, Tensor],
    first_group: int,
    keys: Streams,
    scale: float,
) -> None:
    """Write into ``nearest`` what is right for pairs that are ``unsure`` ``[groups, PAIRS]``."""
    group, pair = unsure.nonzero(as_tuple=True)
    if len(group) == 0:
        return
    radius, angle = (part[group, pair].cpu().numpy().astype("int64") % 2**32 for part in words)
    offsets = offset[group, :, pair].to("cpu", torch.float64).numpy().T
    which = ((group + first_group) * PAIRS + pair).cpu().numpy()
    items = decided(keys, Pairs(which, radius, angle, (offsets[0], offsets[1])), scale)
    found = torch.stack([torch.from_numpy(item) for item in items], 1)
    nearest[group, :, pair] = found.to(nearest)
