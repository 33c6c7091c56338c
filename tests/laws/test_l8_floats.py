"""L8: a release gives away through floating point no more than its real Gaussian does."""

import math

import mpmath
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc.noise import lattice
from dpfunc.noise.fused import FusedRelease
from dpfunc.random.keys import bits
from dpfunc.types import Summed
from tests.laws.float_attack import float_noise, guesses_right, lattice_noise
from tests.laws.matrix import DEVICES, WIDENED

GAMES, COORDINATES, DEVIATION = 1000, 64, 10.0
BOUND = 0.7
VALUES = {
    "small": lambda n: torch.linspace(-1e-3, 1e-3, n),
    "ordinary": lambda n: torch.linspace(-1, 1, n).exp(),
    "large": lambda n: torch.linspace(-1e4, 3e4, n),
    "zero": torch.zeros,
}


def grid(size: int) -> float:
    """The promised one: a power of two up to 2**-10 bound / sqrt(size), whatever the values."""
    return 2.0 ** math.floor(math.log2(2.0**-10 * BOUND / math.sqrt(size)))


def released(values, sigma=1.0, seed=3):
    noise = dp.GaussianNoise(sigma, key=dp.key(seed))
    return noise.add(Summed({"w": values}, BOUND), noise.init({}))[0]["w"]


def test_the_attack_sees_through_noisy_floats_and_gains_nothing_on_the_lattice():
    """At this deviation an attack on the real Gaussian is right 52 times in 100."""
    options = {"coordinates": COORDINATES, "deviation": DEVIATION, "games": GAMES}
    assert guesses_right(float_noise(DEVIATION), **options) > 0.99
    ideal = stats.norm.cdf(0.5 / DEVIATION)
    assert abs(guesses_right(lattice_noise(DEVIATION), **options) - ideal) < 4 * 0.5 / GAMES**0.5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", VALUES)
def test_the_noise_is_the_same_multiples_of_one_grid_whatever_the_values(kind, dtype, device):
    """So the release is a function of the real number S + N, and of nothing else in S."""
    values = VALUES[kind](1000).to(dtype=dtype, device=device).double()  # float32 numbers, too
    steps = (values / grid(1000)).round()
    noise = released(torch.zeros(1000, dtype=torch.float64, device=device)) / grid(1000)
    assert torch.equal(noise, noise.round())
    exact = (steps + noise) * grid(1000)
    assert torch.equal(released(values), exact)
    assert torch.equal(released(values.to(dtype)), exact.to(dtype))


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_the_noise_covers_the_worst_that_rounding_does(size):
    """Sums that are a bound apart and on either side of every rounding boundary."""
    step, direction = grid(size), torch.full((size,), BOUND / math.sqrt(size), dtype=torch.float64)
    for start in torch.linspace(-1, 1, 33, dtype=torch.float64) * step:
        # Next to no noise: what is left is the rounding of the two sums.
        before = released(start + torch.zeros_like(direction), sigma=1e-12)
        after = released(start + direction, sigma=1e-12)
        assert (after - before).norm() <= WIDENED * BOUND


def correctly_rounded(key, count, scale):
    """What the noise must be, to 150 digits: Box and Muller on the bits of the key."""
    pairs = -(-count // 2)
    streams = dp.fold_in(key, "radius"), dp.fold_in(key, "angle")
    values = []
    with mpmath.workdps(150):
        for wave in (mpmath.cos, mpmath.sin):
            for i in range(pairs):
                u, v = (
                    uniform(stream, i, width)
                    for stream, width in zip(streams, (63, 64), strict=True)
                )
                radius = mpmath.sqrt(-2 * mpmath.log(u))
                values.append(int(mpmath.floor(scale * radius * wave(2 * mpmath.pi * v) + 0.5)))
    return values[:count]


def uniform(stream, index, width):
    first = int(bits(stream, index + 1)[-1]) % 2**width
    further = bits(dp.fold_in(stream, "further bits", index), 5).tolist()
    for word in further:
        first = first << 64 | (word % 2**64)
    return mpmath.mpf(first) / 2 ** (width + 320)


@pytest.mark.parametrize("scale", [1e3, 2.0**30, 2.0**48])
def test_every_draw_is_correctly_rounded(scale):
    """At the largest scale float64 alone gets draws wrong by the dozen."""
    drawn = dp.rounded_normal(dp.key(7), (401,), scale=scale).tolist()
    assert drawn == correctly_rounded(dp.key(7), 401, scale)


def test_the_tails_are_there():
    """With 32 bits of radius nothing would lie beyond 6.77 deviations."""
    beyond = sum(
        int((dp.rounded_normal(dp.key(seed), (2**21,), scale=1e6).abs() > 5e6).sum())
        for seed in range(4)
    )
    assert stats.binomtest(beyond, 4 * 2**21, 2 * stats.norm.sf(5)).pvalue > 1e-5


# Importing torch's own compiler warns of its use of TorchScript.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scale", [2.0**10, 2.0**40], ids=["all decided", "some left open"])
def test_a_compiled_release_is_the_release(scale):
    """To the last bit, also where float64 does not decide every number."""
    values = torch.linspace(-3, 3, 2**14, dtype=torch.float64)
    ours, known = (
        lattice.release(values, dp.key(1), deviation=1.0, grid=1 / scale, kernel=kernel)
        for kernel in (FusedRelease("eager"), None)
    )
    assert torch.equal(ours, known)
