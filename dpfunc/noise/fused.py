"""The arithmetic of a release as one compiled kernel: the same bits in one pass over memory.

`dpfunc.noise.lattice.release` takes some forty. What is rounded correctly does not depend on how it
was computed, so that a kernel by `torch.compile` gives the very same numbers; where its error bound
leaves a number open it gives none, and `release` goes on.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpfunc.noise.lattice import release
from dpfunc.random.continuous import uniform63
from dpfunc.random.keys import fold_in, key
from dpfunc.random.rounded import Draw, error_bound

_FEW = 2**12  # pairs: fewer are not worth the call


class FusedRelease:
    """A kernel for `release`, compiled by ``backend`` of `torch.compile` at its first use.

    Called with a draw, the values ``[P]`` and the released numbers ``[P]``, it fills in those that
    the draw is for and returns True; or it returns False and has done nothing. At first use on a
    device, and for a dtype, its numbers are compared with those of `release`.

    Raises RuntimeError where they differ, and what `torch.compile` raises where it cannot compile.
    """

    def __init__(self, backend: str | Callable[..., Any]) -> None:
        self._run = torch.compile(_noisy, backend=backend, dynamic=True, fullgraph=True)
        self._checked: set[tuple[torch.device, torch.dtype]] = set()

    def __call__(self, draw: Draw, values: Tensor, released: Tensor, grid: float) -> bool:
        first, second = draw.halves
        size = first.stop - first.start
        if size < _FEW or second.stop - second.start != size:
            return False
        place = values.device, values.dtype
        if place not in self._checked:
            self._check(*place)
            self._checked.add(place)
        return self._release(draw, values, released, grid)

    def _release(self, draw: Draw, values: Tensor, released: Tensor, grid: float) -> bool:
        first, second = draw.halves
        numbers = torch.tensor([draw.scale, 1 / grid, grid], dtype=torch.float64)
        with torch.no_grad():
            *noisy, farthest = self._run(
                *draw.words(),
                values[first].to(torch.float64),
                values[second].to(torch.float64),
                numbers.to(values.device),
            )
        if not farthest < 0.5:  # where it is NaN, too
            return False
        released[first], released[second] = noisy
        return True

    def _check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Known answers: a kernel is compiled where it runs, so it is tested there."""
        public_key = fold_in(key(0), "known answers of a release")
        values = torch.linspace(-3, 3, 4 * _FEW, dtype=dtype, device=device)
        for grid in (2.0**-8, 2.0**-24):
            ours, known = (
                release(values, public_key, deviation=1.0, grid=grid, kernel=kernel)
                for kernel in (self._release, None)
            )
            if not torch.equal(ours, known):
                raise RuntimeError(
                    f"dpfunc.compile: the compiled release is wrong on {device} in {dtype}; "
                    "use the PrivateGrad uncompiled, and report it."
                )


def _noisy(
    radius_words: Tensor, angle_words: Tensor, first: Tensor, second: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both halves, and the largest ``gap + error``: below 1/2 all of it is rounded correctly.

    In float64 throughout: kernels slow down threefold where types are mixed.
    """
    scale, inverse, grid = numbers.unbind()
    u = uniform63(radius_words)
    radius = (u.log() * -2.0).sqrt()
    angle = angle_words.to(torch.float64) * (math.pi * 2.0**-63)
    reach, error = radius * scale, error_bound(radius, u) * scale
    cosine, sine = angle.cos() * reach, angle.sin() * reach
    wholes = cosine.round(), sine.round()
    gap = torch.maximum((cosine - wholes[0]).abs(), (sine - wholes[1]).abs())
    one, other = (
        ((values * inverse).round() + whole) * grid
        for values, whole in zip((first, second), wholes, strict=True)
    )
    return one, other, (gap + error).amax()
