"""The dominating pair is a pair of distributions whose density ratio is the loss."""

import numpy as np
import pytest

from dpfunc.accounting.pair import cdf_with, cdf_without, log_density_ratio


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (0.3, 0.9), (4.0, 0.01)])
def test_the_loss_is_the_ratio_of_the_densities(sigma, rate):
    x, h = np.linspace(-3 * sigma, 1 + sigma, 50), 1e-4 * sigma
    p = cdf_with(x + h, sigma, rate) - cdf_with(x - h, sigma, rate)
    q = cdf_without(x + h, sigma) - cdf_without(x - h, sigma)
    np.testing.assert_allclose(np.log(p / q), log_density_ratio(x, sigma, rate), atol=1e-5)


def test_far_losses_do_not_overflow():
    loss = log_density_ratio(np.array([-1e3, 1e3]), 0.1, 0.25)
    np.testing.assert_allclose(loss, [np.log(0.75), np.log(0.25) + (2e3 - 1) / 0.02])


def test_the_branches_meet():
    x = 0.5 + 30.0 + np.array([-1e-9, 1e-9])
    low, high = log_density_ratio(x, 1.0, 0.3)
    assert abs(high - low) < 1e-8
