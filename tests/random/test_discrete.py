import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc.random.discrete as discrete
from dpfunc.random.discrete import bernoulli, discrete_gaussian, discrete_laplace
from dpfunc.random.keys import bits, key
from tests.devices import DEVICES

UNLIKELY, DRAWS = 1e-5, 400_000


def fits(drawn, weight, edge):
    """Chi-square against probabilities proportional to ``weight(k)``."""
    whole = np.arange(-edge, edge + 1)
    counts = np.array([(drawn == k).sum() for k in whole])
    far = np.arange(-200 * edge - 200, 200 * edge + 201)
    expected = drawn.size * weight(whole) / weight(far).sum()
    keep = expected > 5
    observed = np.append(counts[keep], drawn.size - counts[keep].sum())
    expected = np.append(expected[keep], drawn.size - expected[keep].sum())
    return stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > UNLIKELY


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [0.2, 1.0, 7.3])
def test_discrete_laplace_probabilities(scale, device):
    drawn = discrete_laplace(key(1), (DRAWS,), scale=scale, device=device).cpu().numpy()
    assert fits(drawn, lambda k: np.exp(-abs(k) / scale), int(8 * scale) + 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5, 9.9])
def test_discrete_gaussian_probabilities(sigma, device):
    drawn = discrete_gaussian(key(2), (DRAWS,), sigma=sigma, device=device).cpu().numpy()
    assert fits(drawn, lambda k: np.exp(-(k**2) / (2 * sigma**2)), int(4 * sigma) + 1)


def test_a_large_discrete_gaussian_is_nearly_a_gaussian():
    drawn = discrete_gaussian(key(3), (10**5,), sigma=1e9).numpy()
    assert stats.kstest(drawn / 1e9, "norm").pvalue > UNLIKELY


@pytest.mark.parametrize(
    "draw",
    [
        lambda: discrete_laplace(key(4), (300,), scale=50.0),
        lambda: discrete_gaussian(key(4), (300,), sigma=50.0),
        lambda: discrete_gaussian(key(4), (300,), sigma=0.7),
    ],
)
def test_deciding_everything_exactly_changes_nothing(draw, monkeypatch):
    quick = draw()
    monkeypatch.setattr(discrete, "_open", lambda is_open, u: list(range(is_open.numel())))
    assert torch.equal(draw(), quick)


@pytest.mark.parametrize("draw", ["laplace", "gaussian"])
def test_shapes_and_zero(draw):
    def call(shape, size):
        if draw == "laplace":
            return discrete_laplace(key(1), shape, scale=size)
        return discrete_gaussian(key(1), shape, sigma=size)

    for shape in [(), (0,), (3, 5)]:
        assert (call(shape, 2.0).shape, call(shape, 2.0).dtype) == (shape, torch.int64)
    assert call((100,), 0.0).abs().max() == 0
    assert torch.equal(call((9,), 2.0), call((9,), 2.0))
    for wrong in (-1.0, float("nan"), float("inf"), 2.0**41, None):
        with pytest.raises(ValueError, match=r"expected 0 <= (scale|sigma) <="):
            call((2,), wrong)


@pytest.mark.parametrize("probability", [2.0**-64, 2.0**-20, 1 / 3, 0.5, 1 - 2.0**-53])
def test_a_coin_is_a_comparison_of_64_bits(probability):
    words = [word + 2**63 for word in bits(key(1), 1000).tolist()]
    coins = bernoulli(key(1), (1000,), probability=probability).tolist()
    assert coins == [word < int(probability * 2**64) for word in words]


def test_coins():
    assert not bernoulli(key(1), (10**4,), probability=0.0).any()
    assert bernoulli(key(1), (10**4,), probability=1.0).all()
    heads = int(bernoulli(key(1), (10, 10**5), probability=0.3).sum())
    assert stats.binomtest(heads, 10**6, 0.3).pvalue > UNLIKELY
    for wrong in (-0.1, 1.1, float("nan"), None):
        with pytest.raises(ValueError, match="expected a probability between 0 and 1"):
            bernoulli(key(1), (2,), probability=wrong)


def test_meta_tensors_have_shapes():
    assert discrete_laplace(key(1), (3,), scale=1.0, device="meta").shape == (3,)
    assert bernoulli(key(1), (3,), probability=0.5, device="meta").shape == (3,)
