"""Epsilon and delta: edges, monotonicity, and reference values (the file says how they came)."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfunc.accounting import (
    Compose,
    Gaussian,
    Laplace,
    Poisson,
    Repeat,
    delta,
    delta_bounds,
    dp_sgd,
    epsilon,
    epsilon_bounds,
)
from dpfunc.accounting.engines.renyi.subsampled_gaussian import epsilon_at
from dpfunc.accounting.events.dp_sgd import phases

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())["configurations"]
EVENT = st.builds(
    dp_sgd,
    noise_multiplier=st.floats(0.5, 20),
    sample_rate=st.floats(1e-3, 1.0),
    steps=st.integers(1, 5000),
)


def configuration(case):
    return dp_sgd(
        noise_multiplier=case["noise_multiplier"],
        sample_rate=case["sample_rate"],
        steps=case["steps"],
    )


EACH = pytest.mark.parametrize(
    "case", REFERENCE, ids=lambda c: "-".join(str(v) for v in list(c.values())[:4])
)


@EACH
def test_reference_configurations(case):
    """The truth, good to 1e-9 itself, lies between the ends."""
    # The lattice at the default tolerance takes seconds in the regime of rare events.
    bounds = epsilon_bounds(configuration(case), delta=case["delta"], tol=case.get("width", 1e-5))
    assert bounds.lower <= case["truth"] * (1 + 1e-9)
    assert bounds.upper >= case["truth"] * (1 - 1e-9)
    assert "width" in case or bounds.width <= 2e-5
    # opake gives bounds from above. Where they hold, ours are no looser, but for our own width;
    # where they do not, as on its fine grid, the lower end disproves them.
    room = bounds.upper - bounds.lower + 1e-9 * bounds.upper
    for claim in case["opake"]:
        if claim >= case["truth"]:
            assert bounds.lower <= claim
            assert bounds.upper <= claim + room
        else:
            assert bounds.lower > claim or claim > case["truth"] - room


@EACH
def test_renyi_dp_at_the_order_of_dp_accounting_gives_its_epsilon(case):
    """To rounding at integer orders; at others it sums absolute terms of a series, above ours."""
    order = case["dp_accounting_order"]
    at_its_order = epsilon_at(phases(configuration(case)), case["delta"], order - 1)
    exact = order == int(order) or case["sample_rate"] == 1
    assert at_its_order == pytest.approx(case["dp_accounting_rdp"], rel=1e-8 if exact else 1e-3)
    assert at_its_order <= case["dp_accounting_rdp"] * (1 + 1e-8)


def test_the_readme_example():
    event = dp_sgd(noise_multiplier=1.1, sample_rate=256 / 60000, steps=14063)
    assert epsilon(event, delta=1e-5) == pytest.approx(2.3816897261, rel=1e-9)


NOTHING = [
    dp_sgd(noise_multiplier=1.0, sample_rate=0.1, steps=0),
    dp_sgd(noise_multiplier=0.0, sample_rate=0.1, steps=0),
    dp_sgd(noise_multiplier=0.0, sample_rate=0.0, steps=5),
    dp_sgd(noise_multiplier=math.inf, sample_rate=1.0, steps=5),
    Compose(()),
]


@pytest.mark.parametrize("event", NOTHING, ids=repr)
def test_what_releases_nothing_costs_nothing(event):
    assert epsilon(event, delta=1e-5) == epsilon(event, delta=0.0) == 0.0
    assert delta(event, epsilon=0.0) == delta(event, epsilon=1.0) == 0.0


@pytest.mark.parametrize("rate", [0.1, 1.0])
@pytest.mark.parametrize("sigma", [0.0, 5e-324, 1e-200])
def test_without_noise_nothing_is_private(sigma, rate):
    event = dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=1)
    assert epsilon(event, delta=1e-5) == math.inf
    exact = delta(event, epsilon=100.0)
    assert exact == delta(event, epsilon=math.inf) == pytest.approx(rate)
    assert exact >= rate


def test_a_record_that_is_hardly_ever_read_costs_at_most_that_chance():
    rare = dp_sgd(noise_multiplier=0.01, sample_rate=1e-9, steps=1000)
    assert epsilon(rare, delta=1.0001e-6) == 0.0
    assert epsilon(rare, delta=0.99e-6) > 0.0
    assert delta(rare, epsilon=0.0) == pytest.approx(1e-6, rel=1e-5)


@pytest.mark.parametrize("rate", [1e-9, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [1.1e-6, 1e-3, 1e4, 1e160])
def test_extreme_noise_has_answers_at_once(sigma, rate):
    for steps in (1, 10**9):
        event = dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
        for d in (1e-300, 1e-5, 0.99):
            assert 0 <= epsilon(event, delta=d, tol=0.1) < math.inf
        for e in (0.0, 1.0, 1e9):
            assert 0 <= delta(event, epsilon=e, tol=0.1) <= 1


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_extreme_questions_have_answers(rate):
    event = dp_sgd(noise_multiplier=1.0, sample_rate=rate, steps=10)
    assert epsilon(event, delta=1.0) == epsilon(event, delta=1.0) == 0.0
    assert epsilon(event, delta=0.0) == math.inf
    assert delta(event, epsilon=math.inf) == 0.0
    assert delta(event, epsilon=1e4) == 0.0
    assert 0 < delta(event, epsilon=0.0) <= 1
    assert 0 < epsilon(event, delta=1e-300) < math.inf


@pytest.mark.parametrize("bad", [-1.0, math.nan, "1", None])
def test_a_bad_question_is_refused(bad):
    with pytest.raises(ValueError, match="epsilon: expected a probability 0 <= delta <= 1"):
        epsilon(Gaussian(1.0), delta=bad)
    with pytest.raises(ValueError, match="delta: expected an epsilon >= 0"):
        delta(Gaussian(1.0), epsilon=bad)


def test_an_order_whose_losses_are_all_below_epsilon_adds_nothing():
    """Without the record, 27 losses of a half-read Gaussian add up to 27 log 2 = 18.7."""
    event = Poisson(0.5, Gaussian(0.5)) * 27
    assert delta(event, epsilon=18.8, relation="add") == 0
    assert delta(event, epsilon=18.6, relation="add") > 0
    lower, upper = delta_bounds(event, epsilon=37.232)
    assert upper < lower * (1 + 1e-6)


TOL = 1e-3  # the lattice is quick at this


@settings(max_examples=4)
@given(EVENT, st.floats(-12, -1))
def test_monotone_in_everything(event, log10_delta):
    d = 10.0**log10_delta
    here = epsilon(event, delta=d, tol=TOL)
    sigma, rate, steps = event.event.event.noise_multiplier, event.event.sample_rate, event.times
    assert 0 <= here < math.inf

    def least(event, d):
        return epsilon_bounds(event, delta=d, tol=TOL).lower

    assert epsilon(Repeat(event.event, steps + 1), delta=d, tol=TOL) >= least(event, d)
    assert least(event, d * 1.1) <= here
    assert least(dp_sgd(noise_multiplier=sigma * 1.1, sample_rate=rate, steps=steps), d) <= here
    assert least(dp_sgd(noise_multiplier=sigma, sample_rate=rate * 0.9, steps=steps), d) <= here
    assert delta(event, epsilon=here, tol=TOL) <= d * 1.2
    assert delta_bounds(event, epsilon=here, tol=TOL).lower <= d


@settings(max_examples=3)
@given(EVENT, EVENT)
def test_composition_neither_minds_order_nor_grouping(left, right):
    together = epsilon_bounds(Compose((left, right)), delta=1e-6, tol=TOL)
    swapped = epsilon_bounds(Compose((right, left)), delta=1e-6, tol=TOL)
    assert swapped.upper == pytest.approx(together.upper, rel=2 * TOL)
    for part in (left, right):
        assert together.upper >= epsilon_bounds(part, delta=1e-6, tol=TOL).lower
    assert Compose((left, left)) != Repeat(left, 2)
    twice = epsilon(Repeat(left, 2), delta=1e-6, tol=TOL)
    assert epsilon(Compose((left, left)), delta=1e-6, tol=TOL) == twice


def test_gaussians_compose_in_closed_form():
    four = Repeat(Gaussian(2.0), 4)
    mixed = Compose((Gaussian(2.0), Repeat(Poisson(1.0, Gaussian(2.0)), 3)))
    for event in (four, mixed):
        assert epsilon(event, delta=1e-5) == pytest.approx(4.377178095681, rel=1e-10)


def test_torch_is_not_imported():
    code = (
        "from dpfunc import accounting; import sys; "
        "accounting.epsilon(accounting.Gaussian(1.0), delta=1e-5); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_order_of_the_relations_and_a_bad_one():
    event = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
    with pytest.raises(ValueError, match="expected a relation among"):
        epsilon(event, delta=1e-5, relation="remove_two")
    with pytest.raises(ValueError, match="expected a method among"):
        epsilon(event, delta=1e-5, method="moments")
    with pytest.raises(ValueError, match="expected a tol in"):
        epsilon(event, delta=1e-5, tol=0.0)


def test_an_engine_without_an_answer_does_not_replace_a_bound():
    """Both of its ends are infinite in the logarithm, and so is one end of the lattice's."""
    event = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=30)
    assert delta_bounds(event, epsilon=0.3, relation="add", tol=1e-3).upper < 1e-100


@pytest.mark.parametrize(
    "event",
    [
        Poisson(0.01, Gaussian(1.0)) * 30,  # adding a record costs much less
        Poisson(0.3, Laplace(4.0)) * 30,  # hardly less
    ],
    ids=repr,
)
def test_both_orders_are_the_worse_of_each(event):
    """The order that costs less is worked out roughly, if at all."""
    found = epsilon_bounds(event, delta=1e-6)
    each = [epsilon_bounds(event, delta=1e-6, relation=order) for order in ("add", "remove")]
    assert found.upper == max(bounds.upper for bounds in each)
    assert found.lower == max(bounds.lower for bounds in each)
    found = delta_bounds(event, epsilon=0.3)
    each = [delta_bounds(event, epsilon=0.3, relation=order) for order in ("add", "remove")]
    assert found.upper == max(bounds.upper for bounds in each)
    assert found.lower == max(bounds.lower for bounds in each)
