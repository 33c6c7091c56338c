"""Arguments and edges; the distribution is tested by law L3."""

import math

import pytest
import torch

import dpfunc as dp
from dpfunc import sampling

KEY = dp.key(1)


def test_rates_zero_and_one():
    assert sampling.poisson(KEY, 0, size=5, rate=0.0)[0].tolist() == []
    assert sampling.poisson(KEY, 0, size=5, rate=1.0)[0].tolist() == [0, 1, 2, 3, 4]
    almost = sampling.poisson(KEY, 0, size=1000, rate=1 - 2**-53)[0]
    assert len(almost) == 1000


def test_a_pure_function_of_key_and_step():
    def draw(key, step):
        return sampling.poisson(key, step, size=100, rate=0.5)[0].tolist()

    assert draw(KEY, 3) == draw(KEY, 3)
    assert draw(KEY, 3) != draw(KEY, 4)
    assert draw(KEY, 3) != draw(dp.key(2), 3)


def test_a_batch_that_does_not_fit_is_refused_and_the_right_size_is_named():
    with pytest.raises(ValueError, match=r"expected pad_to >= \d+, .* pad to 84"):
        sampling.poisson(KEY, 0, size=100, rate=0.5, pad_to=10)
    assert sampling.padded_size(size=100, rate=0.5) == 84


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0, "rate": 0.5}, "expected an int size >= 1 but got 0"),
        ({"size": 2.5, "rate": 0.5}, "expected an int size >= 1 but got 2.5"),
        ({"size": 5, "rate": 1.1}, "expected a probability 0 <= rate <= 1 but got 1.1"),
        ({"size": 5, "rate": -0.1}, "expected a probability 0 <= rate <= 1 but got -0.1"),
        ({"size": 5, "rate": math.nan}, "expected a probability 0 <= rate <= 1 but got nan"),
        ({"size": 5, "rate": 0.5, "pad_to": 2.0}, "expected pad_to >= "),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        sampling.poisson(KEY, 0, **options)


def test_a_step_counts_from_zero():
    with pytest.raises(ValueError, match="expected an int step >= 0 but got -1"):
        sampling.poisson(KEY, -1, size=5, rate=0.5)
    with pytest.raises(TypeError, match=r"expected a dpfunc.Key"):
        sampling.poisson(0, 0, size=5, rate=0.5)
    with pytest.raises(ValueError, match="expected 1e-15 <= overflow_probability < 1"):
        sampling.padded_size(size=5, rate=0.5, overflow_probability=1e-17)


def test_a_default_device_changes_nothing():
    expected = sampling.poisson(KEY, 0, size=50, rate=1.0)
    with torch.device("meta"):
        indices, mask = sampling.poisson(KEY, 0, size=50, rate=1.0)
    assert torch.equal(indices, expected[0])
    assert mask.all()
