"""Arguments of the samplers: shapes that are none are refused, NumPy's numbers are numbers."""

import enum

import numpy as np
import pytest
import torch

import dpfunc as dp

SHAPED = {
    "uniform": lambda k, shape: dp.uniform(k, shape),
    "normal": lambda k, shape: dp.normal(k, shape),
    "laplace": lambda k, shape: dp.laplace(k, shape),
    "bernoulli": lambda k, shape: dp.bernoulli(k, shape, probability=0.5),
    "discrete_laplace": lambda k, shape: dp.discrete_laplace(k, shape, scale=3.0),
    "discrete_gaussian": lambda k, shape: dp.discrete_gaussian(k, shape, sigma=3.0),
}


class Phase(int, enum.Enum):
    TRAIN = 1


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("shape", [(-1,), (2, -3), (2.5,), (True,)])
def test_a_size_that_is_none_is_refused_in_the_samplers_own_name(name, shape):
    with pytest.raises(ValueError, match=f"{name}: expected a shape of ints >= 0 but got"):
        SHAPED[name](dp.key(0), shape)


@pytest.mark.parametrize("name", SHAPED)
def test_sizes_of_numpy_and_of_torch_are_sizes(name):
    drawn = SHAPED[name](dp.key(0), (np.int64(2), torch.tensor(3)))
    assert torch.equal(drawn, SHAPED[name](dp.key(0), (2, 3)))


def test_numbers_of_numpy_are_pythons():
    k = dp.key(0)
    for step in (np.int64(3), np.uint8(3), torch.tensor(3)):
        ours = dp.sampling.poisson(k, step, size=np.int32(50), rate=0.5)
        assert torch.equal(ours[0], dp.sampling.poisson(k, 3, size=50, rate=0.5)[0])
    assert dp.fold_in(k, np.int64(1)) == dp.fold_in(k, Phase.TRAIN) == dp.fold_in(k, 1)
    coins = dp.bernoulli(k, (9,), probability=np.float32(0.5))
    assert torch.equal(coins, dp.bernoulli(k, (9,), probability=0.5))


def test_the_widest_discrete_gaussian():
    drawn = dp.discrete_gaussian(dp.key(0), (1000,), sigma=2.0**40).double()
    assert float(drawn.std()) / 2.0**40 == pytest.approx(1.0, abs=0.12)  # five standard errors
    with pytest.raises(ValueError, match=r"discrete_gaussian: expected 0 <= sigma <= 2\*\*40"):
        dp.discrete_gaussian(dp.key(0), (1,), sigma=2.0**41)
