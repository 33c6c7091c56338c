"""How wrong single precision is, word by word: of the radius, and of the point of the circle.

Radius and point depend on one word each, so that all words can be tried. An error is counted
against both ends of the cell that the bits which were not read leave open, in units of ``2**-24``.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit

from dpfunc.noise.kernels import by_torch, numba_kernel

UNIT = 2.0**-24
RADII, ANGLES = 2**31, 2**30
MOST_SQUARE = 18.0
ROUNDINGS = {"torch": 4.0, "numba": 3.0}
"""Of ``scale * Z + f`` after radius and wave are known, in units of the radius: the scale, its
product with the radius, that with the wave (numba fuses it with the sum), and the sum."""


@njit(nogil=True, error_model="numpy")
def _numba_polar(radius_words, angle_words, out):
    for i in range(len(radius_words)):
        square, radius, cosine, sine = numba_kernel.polar(radius_words[i], angle_words[i])
        out[0, i], out[1, i], out[2, i], out[3, i] = square, radius, cosine, sine


def polar(kernel, radius, angle):
    """Square, radius, cosine and sine of the words ``2 * radius`` and ``angle``: ``[4, n]``."""
    words = [np.ascontiguousarray(w, dtype=np.uint32) for w in (2 * radius, angle)]
    if kernel == "numba":
        out = np.empty((4, len(radius)), np.float32)
        _numba_polar(*words, out)
        return out
    signed = [torch.from_numpy(w.view(np.int32)) for w in words]
    return np.stack(
        [part.numpy() for part in (*by_torch.radii(signed[0]), *by_torch.waves(signed[1]))]
    )


def worst_wave(kernel, angles):
    """The largest error of a cosine or sine, over these quarter angles."""
    _, _, *waves = polar(kernel, np.zeros_like(angles), angles)
    ends = [(angles + end) * (math.pi / 2 / ANGLES) for end in (0, 1)]
    exact = [[wave(end) for end in ends] for wave in (np.cos, np.sin)]
    return max(
        float(np.abs(ours.astype(np.float64) - end).max() / UNIT)
        for ours, both in zip(waves, exact, strict=True)
        for end in both
    )


def used(kernel, radii, wave):
    """The largest share of `by_torch.BOUND` that is used at these radii; ``wave``: `worst_wave`.

    ``|y - real| <= scale (|dr| + (r + |dr|) dw + roundings) `` for a cosine or sine of at most 1.
    """
    square, radius, *_ = (part.astype(np.float64) for part in polar(kernel, radii, radii % ANGLES))
    inside = (square < MOST_SQUARE) & (radius > 0)
    radii, radius = radii[inside], radius[inside]
    off = np.zeros_like(radius)
    for end in (0, 1):
        with np.errstate(divide="ignore"):
            off = np.maximum(off, np.abs(np.sqrt(-2 * np.log((radii + end) / RADII)) - radius))
    off /= UNIT
    small, large = by_torch.BOUND
    real = off + (radius + off * UNIT) * wave + ROUNDINGS[kernel] * radius + 1 / 64
    return float((real * (1 + 2.0**-18) / (small / radius + large * radius)).max(initial=0.0))


def over_all(function, count, step, threads):
    """The largest that ``function`` gives on any of ``range(count)``, in chunks of ``step``."""
    with ThreadPoolExecutor(threads) as pool:
        chunks = (range(a, min(a + step, count)) for a in range(0, count, step))
        return max(pool.map(lambda c: function(np.arange(c.start, c.stop)), chunks))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ROUNDINGS:
        wave = over_all(lambda a, n=name: worst_wave(n, a), ANGLES, 2**20, 2)
        share = over_all(lambda r, n=name, w=wave: used(n, r, w), RADII, 2**20, 2)
        print(f"{name}: waves off by {wave:.3f} of 2**-24; {share:.3f} of the bound is used")
