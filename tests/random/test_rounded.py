import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc.random.continuous as continuous
import dpfunc.random.rounded as rounded
from dpfunc.random.keys import bits, fold_in, key
from dpfunc.random.rounded import rounded_normal
from tests.devices import DEVICES

UNLIKELY = 1e-5
EXTREME_RADII = [0, 1, 2, 2**20, 2**43, 2**52 + 1, 2**53 + 1, 2**62, 2**63 - 2**30, 2**63 - 2, -1]
EXTREME_ANGLES = [
    0,
    1,
    -1,
    2**61,
    2**61 + 1,
    2**62,
    2**62 - 1,
    -(2**62),
    2**63 - 1,
    -(2**63),
    12345,
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7])
def test_every_whole_number_has_its_exact_probability(scale, device):
    drawn = rounded_normal(key(1), (10**6,), scale=scale, device=device).cpu().numpy()
    edge = int(4 * scale) + 1
    whole = np.arange(-edge, edge + 1)
    counts = np.array([(drawn == k).sum() for k in whole])
    chances = stats.norm.cdf((whole + 0.5) / scale) - stats.norm.cdf((whole - 0.5) / scale)
    keep = 1e6 * chances > 5
    observed = np.append(counts[keep], 10**6 - counts[keep].sum())  # the rest in one cell
    expected = 1e6 * np.append(chances[keep], 1 - chances[keep].sum())
    assert stats.chisquare(observed, expected).pvalue > UNLIKELY


@pytest.mark.parametrize("scale", [3.0, 1e6, 2.0**31])
def test_deciding_everything_exactly_changes_nothing(scale, monkeypatch):
    quick = rounded_normal(key(2), (401,), scale=scale)
    monkeypatch.setattr(rounded, "_LOOSE", 1e9)
    monkeypatch.setattr(rounded, "error_bound", lambda radius, u: torch.full_like(radius, 1e9))
    assert torch.equal(rounded_normal(key(2), (401,), scale=scale), quick)


def test_the_error_of_a_float64_normal_is_below_its_bound():
    """Against 60 digits, for words at the edges and for ordinary ones."""
    ordinary = bits(key(3), 300).tolist()
    pairs = [(r, a) for r in EXTREME_RADII for a in EXTREME_ANGLES]
    pairs += list(zip(ordinary[:150], ordinary[150:], strict=True))
    radii, angles = (torch.tensor(column) for column in zip(*pairs, strict=True))
    radius, angle = continuous.polar64(radii, angles)
    # The uniform as eager code and as a compiled kernel have it.
    uniforms = (radius.square() / -2).exp(), continuous.uniform63(radii)
    bound = torch.minimum(*(rounded.error_bound(radius, u) for u in uniforms))
    worst = 0.0
    with mpmath.workdps(60):
        for i, (r, a) in enumerate(pairs):
            m = r % 2**63
            for wave, computed in ((mpmath.cos, angle.cos()), (mpmath.sin, angle.sin())):
                value = float(computed[i] * radius[i])
                for u in (m, m + 1):  # the bits that were not read: all zeros, all ones
                    if u == 0 or u == 2**63:
                        continue
                    true = mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(u) / 2**63))
                    true *= wave(2 * mpmath.pi * mpmath.mpf(a) / 2**64)
                    worst = max(worst, float(abs(value - true)) / float(bound[i]))
    assert 0.05 < worst < 1


def test_the_loose_bound_is_above_the_tight_one():
    radius = torch.logspace(np.log10(2.0**-11), np.log10(5.7), 10**5, dtype=torch.float64)
    assert rounded.error_bound(radius, (radius.square() / -2).exp()).max() < rounded._LOOSE


def test_a_radius_beyond_the_bounds_is_decided_exactly(monkeypatch):
    """The word 0 is a radius of 9.4 or more: how much more, the further bits say."""
    words = torch.tensor([0, 2**63 - 1, 2**62])
    real_bits = bits

    def few_words(k, count, *, device="cpu", start=0):
        if k == fold_in(key(5), "radius"):
            return words[start : start + count].clone()
        return real_bits(k, count, device=device, start=start)

    for module in (continuous, rounded):
        monkeypatch.setattr(module, "bits", few_words)
    drawn = rounded_normal(key(5), (6,), scale=1000.0)
    assert 9_000 < drawn[[0, 3]].double().norm() < 14_000
    assert drawn[[1, 4]].abs().max() == 0
    assert drawn[[2, 5]].double().norm() == pytest.approx(1000 * (2 * np.log(2)) ** 0.5, abs=1)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_numbers_on_every_device_and_in_all_runs(device, monkeypatch):
    here = rounded_normal(key(6), (200_001,), scale=1e6)
    assert torch.equal(rounded_normal(key(6), (200_001,), scale=1e6, device=device).cpu(), here)
    monkeypatch.setattr(rounded, "runs", lambda count, device: [slice(0, count)])
    assert torch.equal(rounded_normal(key(6), (200_001,), scale=1e6), here)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 0, 3), (3, 5)])
def test_shapes(shape):
    drawn = rounded_normal(key(1), shape, scale=100.0)
    assert (drawn.shape, drawn.dtype) == (shape, torch.int64)


def test_scale_zero_gives_zeros():
    assert rounded_normal(key(1), (100,), scale=0.0).abs().max() == 0


def test_there_is_no_hidden_state():
    torch.manual_seed(0)
    first = rounded_normal(key(1), (9,), scale=10.0)
    torch.manual_seed(1)
    assert torch.equal(first, rounded_normal(key(1), (9,), scale=10.0))


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 2.0**49, None])
def test_a_bad_scale_is_refused(scale):
    with pytest.raises(ValueError, match="expected 0 <= scale <="):
        rounded_normal(key(1), (2,), scale=scale)
    with pytest.raises(TypeError, match=r"expected a dpfunc.Key"):
        rounded_normal(b"x", (2,), scale=1.0)
