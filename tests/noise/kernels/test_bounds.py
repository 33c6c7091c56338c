"""What single precision may decide: the bound of every kernel against all words, or the worst."""

import numpy as np
import pytest

from tests.noise.kernels import scans

# Found by the whole scans: the ends, the tail, and random ones between.
SOME = 2**19


def spread(count):
    """Words from everywhere: both ends, around powers of two, and evenly in between."""
    edges = [np.arange(4096), count - 1 - np.arange(4096), np.arange(0, count, count // SOME)]
    edges += [2**k + np.arange(-64, 64) for k in range(8, count.bit_length() - 1)]
    edges.append(266_836 + np.arange(-2000, 40_000))  # the radii next to the largest that counts
    return np.unique(np.concatenate(edges))


@pytest.mark.parametrize("kernel", scans.ROUNDINGS)
def test_the_bound_holds_and_half_of_it_would_not(kernel):
    wave = scans.worst_wave(kernel, spread(scans.ANGLES))
    share = scans.used(kernel, spread(scans.RADII), wave)
    assert 0.5 < share < 1


@pytest.mark.nightly
@pytest.mark.parametrize("kernel", scans.ROUNDINGS)
def test_the_bound_holds_for_every_word(kernel):
    """All 2**30 angles and 2**31 radii: minutes."""
    wave = scans.over_all(lambda a: scans.worst_wave(kernel, a), scans.ANGLES, 2**20, 2)
    share = scans.over_all(lambda r: scans.used(kernel, r, wave), scans.RADII, 2**20, 2)
    assert 0.5 < share < 1
