"""Error rates against the closed forms of the Gaussian mechanism, and each other."""

import math

import pytest
from scipy.special import ndtr, ndtri

from dpfunc.accounting import (
    Gaussian,
    Poisson,
    Repeat,
    advantage,
    bayes_risk,
    delta,
    gdp_mu,
    reconstruction,
    tradeoff,
)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("alpha", [1e-6, 0.01, 0.3, 0.7])
def test_the_tradeoff_of_a_gaussian(mu, alpha):
    exact = ndtr(-ndtri(alpha) - mu)
    ours = tradeoff(Gaussian(1 / mu), alpha=alpha)
    assert ours <= exact * (1 + 1e-9)
    assert ours == pytest.approx(exact, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_advantage_bayes_risk_and_mu_of_a_gaussian(mu):
    event = Gaussian(1 / mu)
    assert advantage(event) == pytest.approx(2 * ndtr(mu / 2) - 1, rel=1e-12)
    assert bayes_risk(event, prior=0.5) == pytest.approx(ndtr(-mu / 2), rel=1e-12)
    assert bayes_risk(event, prior=0.1) == pytest.approx(bayes_risk(event, prior=0.9), rel=1e-9)
    assert mu <= gdp_mu(event) <= 1.1 * mu
    assert reconstruction(event, baseline=0.1) == 1 - tradeoff(event, alpha=0.1)


def test_a_sampled_event_lies_between_nothing_and_the_unsampled():
    event = Repeat(Poisson(0.02, Gaussian(1.0)), 500)
    risk = tradeoff(event, alpha=0.1)
    assert tradeoff(Repeat(Gaussian(1.0), 500), alpha=0.1) <= risk <= 0.9
    for e in (0.0, 1.0, 3.0):
        assert risk >= 1 - delta(event, epsilon=e) - math.exp(e) * 0.1 - 1e-6


def test_edges():
    assert tradeoff(Gaussian(1.0), alpha=1.0) == 0.0
    assert tradeoff(Gaussian(math.inf), alpha=0.3) == pytest.approx(0.7, abs=1e-4)
    with pytest.raises(ValueError, match="an alpha in"):
        tradeoff(Gaussian(1.0), alpha=1.5)
    with pytest.raises(ValueError, match="a prior in"):
        bayes_risk(Gaussian(1.0), prior=0.0)
