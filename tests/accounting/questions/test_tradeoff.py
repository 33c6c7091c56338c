"""Error rates against the closed forms of the Gaussian mechanism, and each other."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from dpfunc.accounting import (
    Gaussian,
    Laplace,
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
    assert mu <= gdp_mu(event) <= 1.0011 * mu
    assert reconstruction(event, baseline=0.1) == 1 - tradeoff(event, alpha=0.1)


def test_a_sampled_event_lies_between_nothing_and_the_unsampled():
    event = Repeat(Poisson(0.02, Gaussian(1.0)), 500)
    risk = tradeoff(event, alpha=0.1)
    assert tradeoff(Repeat(Gaussian(1.0), 500), alpha=0.1) <= risk <= 0.9
    for e in (0.0, 1.0, 3.0):
        assert risk >= 1 - delta(event, epsilon=e) - math.exp(e) * 0.1 - 1e-6


@pytest.mark.parametrize("event", [Repeat(Poisson(0.02, Gaussian(1.0)), 500), Laplace(0.5)])
def test_the_curve_of_mu_is_nowhere_above_and_touches(event):
    mu = gdp_mu(event)
    alphas = np.array([1e-6, 1e-3, 0.03, 0.1, 0.184, 0.5])
    missed = np.array([tradeoff(event, alpha=alpha) for alpha in alphas])
    assert (ndtr(-ndtri(alphas) - mu) <= missed + 1e-9).all()
    needed = -ndtri(alphas) - ndtri(missed)  # the mu that each point asks for by itself
    assert 0.9 * mu < needed.max() <= mu * (1 + 1e-9)


@pytest.mark.nightly
def test_the_mu_of_one_order_is_that_of_both():
    event = Repeat(Poisson(0.02, Gaussian(1.0)), 500)
    assert gdp_mu(event, relation="add") == gdp_mu(event) == gdp_mu(event, relation="zero_out")


def test_mu_at_the_edges():
    assert gdp_mu(Gaussian(math.inf)) == 0.0
    assert gdp_mu(Gaussian(0.0)) == math.inf
    assert 10 <= gdp_mu(Gaussian(0.1)) <= 10.1  # no test errs in more than 1 of a million both ways
    with pytest.raises(ValueError, match="0 < least_alpha"):
        gdp_mu(Gaussian(1.0), least_alpha=0.0)


@pytest.mark.parametrize("alpha", [pytest.param(0.05, marks=pytest.mark.nightly), 0.6])
def test_one_order_lies_above_both_and_one_of_them_on_it(alpha):
    event = Repeat(Poisson(0.1, Gaussian(1.0)), 100)
    both = tradeoff(event, alpha=alpha)
    adds, removes = (tradeoff(event, alpha=alpha, relation=one) for one in ("add", "remove"))
    assert min(adds, removes) == pytest.approx(both, rel=1e-6)
    assert max(adds, removes) > both * 1.001
    # Exchanging P and Q turns the curve into its inverse.
    assert tradeoff(event, alpha=removes, relation="add") == pytest.approx(alpha, rel=1e-4)


def test_edges():
    assert tradeoff(Gaussian(1.0), alpha=1.0) == 0.0
    assert tradeoff(Gaussian(math.inf), alpha=0.3) == pytest.approx(0.7, abs=1e-4)
    with pytest.raises(ValueError, match="an alpha in"):
        tradeoff(Gaussian(1.0), alpha=1.5)
    with pytest.raises(ValueError, match="a prior in"):
        bayes_risk(Gaussian(1.0), prior=0.0)
