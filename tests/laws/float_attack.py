"""The attack on noisy floats by Mironov (2012), as used by Jin et al. (2022) on Gaussian noise.

An adversary knows the two sums that a release may come from, and the deviation of the noise. Not
every float is ``fl(value + fl(deviation * z))`` for some float z: the float products of the noise
leave gaps, and adding the value moves them. A coordinate that one of the two sums cannot have led
to gives the other one away. The attacker picks the sum that could have led to more coordinates.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import dpfunc as dp
from dpfunc.types import Summed

NEIGHBOURS = 4  # floats tried on either side of the quotient
Release = Callable[[Tensor, int], Tensor]


def reachable(
    released: NDArray[np.float32], value: NDArray[np.float32], deviation: float
) -> NDArray[np.bool_]:
    """Whether some float32 z has ``released == value + deviation * z`` in float32 arithmetic."""
    sigma = np.float32(deviation)
    z = ((released.astype(np.float64) - value) / float(sigma)).astype(np.float32)
    for _ in range(NEIGHBOURS):
        z = np.nextafter(z, np.float32(-np.inf))
    found = np.zeros(released.shape, dtype=bool)
    for _ in range(2 * NEIGHBOURS + 1):
        found |= value + sigma * z == released
        z = np.nextafter(z, np.float32(np.inf))
    return found


def guesses_right(release: Release, *, coordinates: int, deviation: float, games: int) -> float:
    """How often the attacker tells a record's clipped gradient of norm 1 from nothing at all.

    Both are equally likely. Where as many coordinates speak for either, the likelihood decides, as
    it would against the real Gaussian: the attacker is then right with ``Phi(1 / (2 deviation))``.
    """
    gradient = np.full(coordinates, 1 / np.sqrt(coordinates), dtype=np.float32)
    right = 0
    for game, present in enumerate(dp.bernoulli(dp.key(1), (games,), probability=0.5).tolist()):
        value = gradient if present else np.zeros_like(gradient)
        released = release(torch.from_numpy(value), game).numpy()
        score = int(reachable(released, gradient, deviation).sum())
        score -= int(reachable(released, np.zeros_like(gradient), deviation).sum())
        likelier = float(released @ gradient) > 0.5
        right += (score > 0 if score != 0 else likelier) == present
    return right / games


def float_noise(deviation: float) -> Release:
    """``value + torch.randn * deviation`` in float32: what most libraries release."""
    generator = torch.Generator().manual_seed(5)

    def release(value: Tensor, game: int) -> Tensor:
        return value + torch.randn(value.shape, generator=generator) * deviation

    return release


def lattice_noise(deviation: float) -> Release:
    """The same through `GaussianNoise`."""
    noise = dp.GaussianNoise(deviation, key=dp.key(6))
    state = noise.init({})

    def release(value: Tensor, game: int) -> Tensor:
        return noise.add(Summed({"w": value}, 1.0), {**state, "step": game})[0]["w"]

    return release
