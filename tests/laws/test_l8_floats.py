"""L8: a release gives away through floating point no more than its real Gaussian does."""

import math

import mpmath
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc.noise import lattice
from dpfunc.noise.kernels import by_numba, by_torch, deciding, numba_kernel
from dpfunc.noise.kernels.by_numba import release_by_numba
from dpfunc.noise.kernels.by_torch import release_by_torch
from dpfunc.noise.kernels.format import streams
from dpfunc.random.keys import bits
from dpfunc.types import Summed
from tests.laws import exact_release
from tests.laws.float_attack import float_noise, guesses_right, lattice_noise
from tests.laws.matrix import DEVICES, WIDENED

GAMES, COORDINATES, DEVIATION = 1000, 64, 10.0
BOUND, SIGMA = 0.7, 1.3
KERNELS = {"torch": release_by_torch, "numba": release_by_numba}
DTYPES = [torch.float32, torch.float64]
VALUES = {
    "small": lambda n: torch.linspace(-1e-3, 1e-3, n),
    "ordinary": lambda n: torch.linspace(-1, 1, n).exp(),
    "large": lambda n: torch.linspace(-1e4, 3e4, n),
    "zero": torch.zeros,
}
# Where rows, halves and groups of the format meet, and a few between.
ITEMS = [
    0,
    1,
    2,
    255,
    256,
    2047,
    2048,
    2049,
    4095,
    4096,
    6143,
    6144,
    8191,
    8192,
    *range(37, 9000, 311),
]


def grid(deviation):
    """The promised one: a power of two up to 2**-6 of the deviation, whatever the values."""
    return 2.0 ** math.floor(math.log2(deviation)) * 2.0**-6


def using(kernel, monkeypatch):
    monkeypatch.setattr(lattice, "kernel_for", lambda device: KERNELS[kernel])


def test_the_attack_sees_through_noisy_floats_and_gains_nothing_on_the_lattice():
    """At this deviation an attack on the real Gaussian is right 52 times in 100."""
    options = {"coordinates": COORDINATES, "deviation": DEVIATION, "games": GAMES}
    assert guesses_right(float_noise(DEVIATION), **options) > 0.99
    ideal = stats.norm.cdf(0.5 / DEVIATION)
    assert abs(guesses_right(lattice_noise(DEVIATION), **options) - ideal) < 4 * 0.5 / GAMES**0.5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", VALUES)
def test_a_release_is_the_real_sum_plus_real_noise_correctly_rounded(
    kind, dtype, kernel, monkeypatch
):
    """So it is a function of the real number S + N: the sum must not be rounded before."""
    using(kernel, monkeypatch)
    noise = dp.GaussianNoise(SIGMA, key=dp.key(3))
    values = VALUES[kind](9000).to(dtype)
    parts = {"b": values[:3001], "w": values[3001:].view(7, -1)}  # in the order of their names
    noisy, _ = noise.add(Summed(parts, BOUND), noise.init({}))
    row = torch.cat([noisy["b"], noisy["w"].flatten()])
    deviation = SIGMA * BOUND * WIDENED
    key = dp.fold_in(dp.key(3), "noise", 0)
    for item in ITEMS:
        exact = exact_release.released(key, item, float(values[item]), deviation, grid(deviation))
        assert row[item] == torch.tensor(exact, dtype=dtype), item


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("deviation", [1.0, 1.999, 3e-20, 5e25])
def test_all_kernels_release_the_same_numbers(dtype, deviation, device):
    size = 300_001
    sums = torch.linspace(-3, 5, size, dtype=dtype) * deviation
    sums[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    sums[3000:3003] = sums[:3]  # items by a sine, too
    here = {"w": sums.to(device)}
    known = release_by(release_by_torch, {"w": sums}, deviation)
    ours = lattice.release(here, dp.key(1), deviation=deviation)["w"].cpu()
    fast = release_by(release_by_numba, {"w": sums}, deviation)
    for other in (ours, fast):
        assert torch.equal(bits_of(other), bits_of(known))
    for first in (0, 3000):
        assert known[first].isnan()
        assert known[first + 1 : first + 3].tolist() == [math.inf, -math.inf]


def bits_of(values):
    """The bits of floats, one pattern for all that are no numbers: -0 is another than 0."""
    kind = {4: torch.int32, 8: torch.int64}[values.itemsize]
    return values.nan_to_num(nan=0.125, posinf=math.inf, neginf=-math.inf).view(kind)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sums", [-1e-30, -0.0, -1e-3])
def test_no_zero_tells_the_sign_of_the_sum(sums, dtype, kernel):
    """-0 is released where the sum and the noise are both negative, unless that is seen to."""
    values = {"w": torch.full((300_000,), sums, dtype=dtype)}
    zeros = release_by(KERNELS[kernel], values, 1.0) == 0
    released = release_by(KERNELS[kernel], values, 1.0)
    assert zeros.sum() > 1000
    assert not released[zeros].signbit().any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bits_of_a_release_do_not_depend_on_how_a_number_was_decided(kernel, monkeypatch):
    """Nor do those of zeros that more bits decided."""
    values = {"w": torch.full((4096,), -1e-30)}
    quick = release_by(KERNELS[kernel], values, 1.0)
    monkeypatch.setattr(by_torch, "BOUND", (1e9, 1e9))
    slow = release_by(KERNELS[kernel], values, 1.0)
    assert torch.equal(bits_of(slow), bits_of(quick))


def release_by(kernel, values, deviation, seed=1):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "kernel_for", lambda device: kernel)
        return lattice.release(values, dp.key(seed), deviation=deviation)["w"]


@pytest.mark.parametrize("what", ["single precision", "and corners", "and 52 bits"])
def test_deciding_everything_by_more_bits_changes_nothing(what, monkeypatch):
    size = 4096 if what == "single precision" else 301
    values = {"w": torch.linspace(-3, 3, size, dtype=torch.float64)}
    quick = release_by(release_by_numba, values, 1.7)
    monkeypatch.setattr(by_torch, "BOUND", (1e9, 1e9))
    if what != "single precision":
        real, calls = deciding.corners, []

        def unsure(radius, angle, widths, pairs, scale):
            calls.append(widths)
            items = real(radius, angle, widths, pairs, scale)
            if widths == (31, 30) or what == "and 52 bits":
                items = tuple(i._replace(known=i.known & False, whole=i.whole * 0) for i in items)
            return items

        monkeypatch.setattr(deciding, "corners", unsure)
    assert torch.equal(release_by(release_by_torch, values, 1.7), quick)
    assert what == "single precision" or (52, 52) in calls


def extreme_words():
    """Words at the ends of what they can be, and next to the powers of two."""
    edges = {0, 1, 2, 3, 2**31 - 1, 2**32 - 1, 2**32 - 2, 2**32 - 3, 2 * 266_836}
    for power in range(2, 32):
        edges |= {2**power - 1, 2**power, 2**power + 1}
    return sorted(edges)


def pairs_of_extremes(offsets):
    radius, angle = torch.cartesian_prod(*[torch.tensor(extreme_words())] * 2).unbind(1)
    count = len(radius)
    f = torch.linspace(-0.5, 0.5, count, dtype=torch.float64).numpy()
    f = (f, f[::-1].copy()) if offsets is None else (0 * f + offsets, 0 * f - offsets)
    return deciding.Pairs(torch.arange(count).numpy(), radius.numpy(), angle.numpy(), f)


@pytest.mark.parametrize("scale", [64.0, 100.0, 127.99])
@pytest.mark.parametrize("offset", [None, 0.0, 0.49999])
def test_what_corners_decide_holds_for_every_bit_that_was_not_read(offset, scale):
    """Against 60 digits, at the corners of the cell and in the middle of it."""
    pairs = pairs_of_extremes(offset)
    items = deciding.corners(pairs.radius >> 1, pairs.angle % 2**30, (31, 30), pairs, scale)
    both = numba_corners(pairs, scale)
    assert not items[0].known[pairs.radius < 2].any()  # U may be 0: nothing is known of them
    assert (items[0].known & items[1].known).mean() > 0.6
    chosen = range(0, len(pairs.radius), 29)
    with mpmath.workdps(60):
        for i in chosen:
            ours = [(item.whole[i], item.known[i]) for item in items]
            assert both[i][2] == (ours[0][1] and ours[1][1])
            if both[i][2]:
                assert both[i][:2] == (ours[0][0], ours[1][0])
            for side, (whole, known) in enumerate(ours):
                if known:
                    assert {whole} == wholes(pairs, i, side, scale)


def numba_corners(pairs, scale):
    words = pairs.radius.astype("uint32"), pairs.angle.astype("uint32")
    settings = torch.tensor([scale, 64, 1 / 64, 0, 0, 18, deciding.ERROR], dtype=torch.float64)
    return [
        numba_kernel.by_corners(r, a, (f, g), settings.numpy())
        for r, a, f, g in zip(*words, *pairs.offsets, strict=True)
    ]


def wholes(pairs, i, side, scale):
    """All that one item can be, by the bits that were not read."""
    m, angle, found = int(pairs.radius[i]) >> 1, int(pairs.angle[i]), set()
    tiny = mpmath.mpf(2) ** -100
    for du in (tiny, 0.5, 1 - tiny):
        for dv in (tiny, 0.5, 1 - tiny):
            quarter = (angle % 2**30 + dv) * mpmath.pi / 2**31
            wave = mpmath.sin(quarter) if side else mpmath.cos(quarter)
            sign = -1 if angle >> (30 if side else 31) & 1 else 1
            real = sign * scale * wave * mpmath.sqrt(-2 * mpmath.log((m + du) / 2**31))
            found.add(float(mpmath.floor(real + float(pairs.offsets[side][i]) + 0.5)))
    return found


def test_the_tails_are_there():
    """With the 31 bits of a radius word alone nothing would lie beyond 6.66 deviations."""
    keys = streams(dp.key(5))
    radii = []
    for which, word in enumerate([0, 1, 2]):  # of which the first two have U below 2**-31
        one = deciding.Pairs(
            *(torch.tensor([n]).numpy() for n in (which, word, 2**28)),
            (torch.zeros(1, dtype=torch.float64).numpy(),) * 2,
        )
        radii.append(math.hypot(*deciding.by_further_bits(keys, one, 1000.0)) / 1000)
    assert min(radii[:2]) > 6.55
    assert 6.4 < radii[2] < 6.56
    for which in (0, 1):
        with mpmath.workdps(60):
            further = exact_release.block(keys.further, which)
            u = exact_release.fraction(0, 31, [int.from_bytes(further[:8], "little")] + 3 * [0])
            assert radii[which] == pytest.approx(float(mpmath.sqrt(-2 * mpmath.log(u))), abs=0.01)


def correctly_rounded(key, count, scale):
    """What `rounded_normal` must be, to 150 digits: Box and Muller on the bits of the key."""
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


def test_rounded_normals_have_their_tails():
    """With 32 bits of radius nothing would lie beyond 6.77 deviations."""
    beyond = sum(
        int((dp.rounded_normal(dp.key(seed), (2**21,), scale=1e6).abs() > 5e6).sum())
        for seed in range(4)
    )
    assert stats.binomtest(beyond, 4 * 2**21, 2 * stats.norm.sf(5)).pvalue > 1e-5


def test_both_kernels_are_there():
    assert by_numba.available()
