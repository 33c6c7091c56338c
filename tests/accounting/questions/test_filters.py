"""Filters and odometers: never beyond the budget, and tight where theory says so."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    Compose,
    ConcentratedFilter,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    GaussianFilter,
    Group,
    Laplace,
    NonPrivate,
    Poisson,
    PureDP,
    RenyiFilter,
    RenyiOdometer,
    best_order,
    dp_sgd,
    epsilon,
    rdp,
)

NOTHING = Compose(())
BUDGET = {"target_epsilon": 2.0, "delta": 1e-5}
PLAN = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
FILTERS = {
    "renyi": RenyiFilter(**BUDGET, order=12.0),
    "gaussian": GaussianFilter(**BUDGET),
    "concentrated": ConcentratedFilter(**BUDGET),
}
EACH = pytest.mark.parametrize("privacy", FILTERS.values(), ids=list(FILTERS))


@EACH
@settings(max_examples=25)
@given(sigmas=st.lists(st.floats(2.0, 40.0), max_size=12))
def test_no_history_that_was_allowed_is_beyond_the_budget(privacy, sigmas):
    """With the choice of noise made by whim: the exact epsilon of what was allowed is within."""
    history = NOTHING
    for sigma in sigmas:
        if privacy.allows(history, Gaussian(sigma)):
            history = history + Gaussian(sigma)
    assert privacy.spent(history) <= 2.0
    assert epsilon(history, delta=1e-5) <= 2.0


@EACH
def test_the_order_of_releases_does_not_matter(privacy):
    first, second = Gaussian(4.0), Gaussian(9.0)
    assert privacy.spent(first + second) == pytest.approx(privacy.spent(second + first), rel=1e-12)
    assert privacy.allows(first, second) == privacy.allows(second, first)


@EACH
def test_nothing_costs_nothing_and_is_always_allowed(privacy):
    assert privacy.spent(NOTHING) == 0.0
    assert privacy.allows(NOTHING, NOTHING)
    assert privacy.allows(NOTHING, Gaussian(math.inf))
    assert not privacy.allows(NOTHING, Gaussian(0.0))


@EACH
def test_a_full_budget_allows_nothing_more(privacy):
    few = next(n for n in range(1, 9999) if not privacy.allows(NOTHING, Gaussian(9.0) * n))
    assert few > 2
    assert privacy.allows(Gaussian(9.0) * (few - 2), Gaussian(9.0))
    assert not privacy.allows(Gaussian(9.0) * (few - 1), Gaussian(9.0))
    assert not privacy.allows(Gaussian(9.0) * 10**9, NOTHING)


def test_the_gaussian_filter_is_as_tight_as_a_plan():
    privacy = GaussianFilter(**BUDGET)
    for count in range(1, 60):
        within = epsilon(Gaussian(9.0) * count, delta=1e-5) <= 2.0
        assert privacy.allows(Gaussian(9.0) * (count - 1), Gaussian(9.0)) == within


def test_the_filters_rank_as_in_theory():
    history = Gaussian(9.0) * 20
    spent = {name: privacy.spent(history) for name, privacy in FILTERS.items()}
    exact = epsilon(history, delta=1e-5)
    assert spent["gaussian"] == pytest.approx(exact, rel=1e-9)
    assert exact < spent["concentrated"] <= spent["renyi"] * (1 + 1e-6)


@pytest.mark.parametrize("relation", ["add_or_remove", "replace_one"])
def test_a_replaced_record_costs_as_half_the_noise(relation):
    sigma = {"add_or_remove": 4.0, "replace_one": 8.0}[relation]
    for make in (GaussianFilter, ConcentratedFilter, lambda **o: RenyiFilter(**o, order=12.0)):
        spent = make(**BUDGET, relation=relation).spent(Gaussian(sigma))
        assert spent == pytest.approx(make(**BUDGET).spent(Gaussian(4.0)), rel=1e-6)


def test_concentrated_dp_of_each_release():
    """Against Bun and Steinke's own conversion with the best order: never above it."""
    privacy = ConcentratedFilter(**BUDGET)
    for release, rho in (
        (Gaussian(10.0), 1 / 200),
        (DiscreteGaussian(10.0, 2), 4 / 200),
        (Laplace(10.0), 1 / 200),
        (DiscreteLaplace(0.05, 2), 1 / 200),
        (PureDP(0.1), 1 / 200),
        (ExponentialMechanism(0.1), 1 / 800),
        (ZCDP(0.005), 1 / 200),
    ):
        classic = 9 * rho + 2 * math.sqrt(9 * rho * math.log(1e5))
        spent = privacy.spent(release * 9)
        assert 0.5 * classic < spent < classic
        assert spent == pytest.approx(privacy.spent(ZCDP(9 * rho)), rel=1e-6)


def test_deltas_of_releases_come_off_the_filters_own():
    privacy = ConcentratedFilter(**BUDGET)
    without = privacy.spent(PureDP(0.1) * 9)
    assert privacy.spent(ApproxDP(0.1, 0.0) * 9) == pytest.approx(without)
    assert without < privacy.spent(ApproxDP(0.1, 1e-6) * 9) < math.inf
    assert privacy.spent(ApproxDP(0.1, 1e-5)) == math.inf
    assert not privacy.allows(NOTHING, ApproxDP(0.1, 2e-6) * 5)


def test_renyi_serves_what_is_sampled():
    order = best_order(PLAN, delta=1e-5)
    privacy = RenyiFilter(**BUDGET, order=order)
    exact = epsilon(PLAN, delta=1e-5)
    assert exact < privacy.spent(PLAN) < exact * 1.15
    for other in (order * 0.8, order * 1.25):
        assert RenyiFilter(**BUDGET, order=other).spent(PLAN) > privacy.spent(PLAN)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(0.7, 5), st.floats(1e-3, 0.05)), max_size=6))
def test_sampled_histories_stay_within(steps):
    privacy, history = RenyiFilter(**BUDGET, order=9.0), NOTHING
    for sigma, rate in steps:
        run = dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=100)
        if privacy.allows(history, run):
            history = history + run
    assert epsilon(history, delta=1e-5) <= 2.0


def test_the_odometer_is_above_the_filter_and_above_the_truth():
    odometer = RenyiOdometer(delta=1e-5, orders=(4.0, 8.0, 16.0))
    for history in (NOTHING, PLAN, Gaussian(5.0) * 3):
        reading = odometer.epsilon(history)
        assert reading >= epsilon(history, delta=1e-5)
        for order in odometer.orders:
            bound = rdp(history, order=order) + math.log(3e5) / (order - 1)
            assert reading <= bound


def test_the_odometer_holds_at_every_moment_of_an_adaptive_run():
    """Noise chosen to make the loss as large as it can look: how often does it pass the reading?

    The record is in the data; the loss of a release at noise sigma is Normal(mu**2 / 2, mu**2),
    mu = 1 / sigma. A run stops at the first moment above the reading: with delta = 0.2 that may
    happen in at most a fifth of the runs.
    """
    random = np.random.default_rng(3)
    orders = (1.5, 2.0, 3.0, 5.0)
    odometer = RenyiOdometer(delta=0.2, orders=orders)
    sigmas = np.array([1.0, 3.0])
    cost = np.array([[rdp(Gaussian(s), order=a) for a in orders] for s in sigmas])
    share = math.log(len(orders) / 0.2) / (np.array(orders) - 1)
    runs, exceeded = 4000, 0
    for _ in range(runs):
        loss, spent = 0.0, np.zeros(len(orders))
        for _ in range(60):
            choice = int(loss < 0.5 * (spent + share).min())  # careful while far, bold when near
            mu = 1 / sigmas[choice]
            loss += random.normal(mu * mu / 2, mu)
            spent = spent + cost[choice]
            if loss > (spent + share).min():
                exceeded += 1
                break
    assert exceeded / runs < 0.2
    assert exceeded / runs > 0.01  # the bound is not idle
    history = Gaussian(1.0) * 4 + Gaussian(3.0) * 7
    expected = (4 * cost[0] + 7 * cost[1] + share).min()
    assert odometer.epsilon(history) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("privacy", "release", "message"),
    [
        (GaussianFilter(**BUDGET), Poisson(0.1, Gaussian(1.0)), "only unsampled Gaussian noise"),
        (GaussianFilter(**BUDGET), Laplace(1.0), "only unsampled Gaussian noise"),
        (ConcentratedFilter(**BUDGET), Poisson(0.1, Gaussian(1.0)), "use a RenyiFilter"),
        (ConcentratedFilter(**BUDGET), NonPrivate(), "use a RenyiFilter"),
        (RenyiFilter(**BUDGET, order=2.0), Poisson(0.1, ZCDP(1.0)), "moments only"),
    ],
)
def test_what_a_filter_cannot_bound_is_refused(privacy, release, message):
    for event in (release, Gaussian(5.0) + release):
        with pytest.raises(ValueError, match=message):
            privacy.allows(NOTHING, event)
        with pytest.raises(ValueError, match=message):
            privacy.allows(event, NOTHING)


def test_groups_cost_as_less_noise():
    privacy = GaussianFilter(**BUDGET)
    assert privacy.spent(Group(3, Gaussian(12.0))) == pytest.approx(privacy.spent(Gaussian(4.0)))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, "1"])
def test_a_bad_budget_is_refused(bad):
    for make in (GaussianFilter, ConcentratedFilter, lambda **o: RenyiFilter(**o, order=2.0)):
        with pytest.raises(ValueError, match="a finite target_epsilon > 0"):
            make(target_epsilon=bad, delta=1e-5)
        with pytest.raises(ValueError, match="a delta between 0 and 1"):
            make(target_epsilon=1.0, delta=bad if bad != "1" else 1.0)


@pytest.mark.parametrize("bad", [1.0, 0.5, math.inf, math.nan])
def test_a_bad_order_is_refused(bad):
    with pytest.raises(ValueError, match="a finite order > 1"):
        RenyiFilter(**BUDGET, order=bad)
    with pytest.raises(ValueError, match="a finite order > 1"):
        RenyiOdometer(delta=1e-5, orders=(2.0, bad))
    with pytest.raises(ValueError, match="a tuple of orders"):
        RenyiOdometer(delta=1e-5, orders=())


def test_only_events_make_a_history():
    with pytest.raises(TypeError, match="allows: expected an event but got 'list'"):
        GaussianFilter(**BUDGET).allows([Gaussian(1.0)], Gaussian(1.0))
    with pytest.raises(TypeError, match="best_order: expected an event"):
        best_order(3, delta=1e-5)
