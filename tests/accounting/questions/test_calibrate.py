"""What calibration returns meets the target, and hardly anything better would."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from dpfunc import accounting
from dpfunc.accounting import ApproxDP, Gaussian, Laplace, advantage, dp_sgd, epsilon, tradeoff
from dpfunc.accounting.events.algebra import Compose
from dpfunc.accounting.questions.frontier import Frontier, Guess

TARGET = st.floats(0.5, 6)
RATE = st.sampled_from([0.01, 0.25, 1.0])
STEPS = st.integers(1000, 30_000)
DELTA = st.sampled_from([1e-8, 1e-5])


def spent(sigma, rate, steps, delta):
    event = dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    return epsilon(event, delta=delta)


@settings(max_examples=3)
@given(TARGET, RATE, STEPS, DELTA)
def test_noise_multiplier(target, rate, steps, delta):
    sigma = accounting.noise_multiplier(
        target_epsilon=target, delta=delta, sample_rate=rate, steps=steps
    )
    assert spent(sigma, rate, steps, delta) <= target
    assert sigma == 0 or spent(sigma * (1 - 1e-5), rate, steps, delta) > target


@pytest.mark.nightly
@settings(max_examples=20)
@given(TARGET, st.floats(0.9, 5), STEPS, DELTA)
def test_any_sample_rate(target, sigma, steps, delta):
    require_largest_rate(target, sigma, steps, delta)


def test_sample_rate():
    require_largest_rate(2.0, 1.1, 3000, 1e-5)


def require_largest_rate(target, sigma, steps, delta):
    options = {"target_epsilon": target, "delta": delta, "noise_multiplier": sigma, "steps": steps}
    try:
        rate = accounting.sample_rate(**options)
    except ValueError:
        assert spent(sigma, 1e-12, steps, delta) > target
        return
    assert spent(sigma, rate, steps, delta) <= target
    assert rate == 1 or spent(sigma, rate * (1 + 1e-5), steps, delta) > target


@settings(max_examples=3)
@given(TARGET, RATE, st.floats(0.9, 5), DELTA)
def test_steps(target, rate, sigma, delta):
    count = accounting.steps(
        target_epsilon=target, delta=delta, noise_multiplier=sigma, sample_rate=rate
    )
    assert spent(sigma, rate, count, delta) <= target
    assert spent(sigma, rate, count + 1, delta) > target


TARGETS = [{"target_advantage": 0.2}, {"target_tradeoff": (0.01, 0.97)}]


def meets(target, sigma, rate, steps, relation="add_or_remove"):
    event = dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
    if "target_advantage" in target:
        return advantage(event, relation=relation) <= target["target_advantage"]
    alpha, beta = target["target_tradeoff"]
    return tradeoff(event, alpha=alpha, relation=relation) >= beta


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: next(iter(t)))
def test_other_targets_are_met_and_hardly_anything_better_would(target):
    rate, count = 0.01, 2000
    sigma = accounting.noise_multiplier(**target, sample_rate=rate, steps=count)
    assert meets(target, sigma, rate, count)
    assert not meets(target, sigma * (1 - 2e-6), rate, count)
    if "target_tradeoff" in target:  # its search is the slow one
        return
    most = accounting.steps(**target, sample_rate=rate, noise_multiplier=1.0)
    assert meets(target, 1.0, rate, most)
    assert not meets(target, 1.0, rate, most + 1)
    largest = accounting.sample_rate(**target, noise_multiplier=1.5, steps=count)
    assert meets(target, 1.5, largest, count)
    assert not meets(target, 1.5, largest * (1 + 2e-6), count)


BEFORE = [Gaussian(3.0), Gaussian(4.0) + Laplace(3.0)]


@pytest.mark.parametrize("before", BEFORE, ids=repr)
def test_after_what_was_released_before_both_together_meet_the_target(before):
    options = {"target_epsilon": 6.0, "delta": 1e-6, "after": before}
    rate, count = 0.1, 80

    def is_met(sigma, rate, count):
        event = before + dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=count)
        return epsilon(event, delta=1e-6) <= 6.0

    sigma = accounting.noise_multiplier(**options, sample_rate=rate, steps=count)
    assert is_met(sigma, rate, count)
    assert not is_met(sigma * (1 - 2e-6), rate, count)
    most = accounting.steps(**options, sample_rate=rate, noise_multiplier=1.0)
    assert is_met(1.0, rate, most)
    assert not is_met(1.0, rate, most + 1)
    if before != BEFORE[0]:  # a lattice serves, and takes its time
        return
    largest = accounting.sample_rate(**options, noise_multiplier=1.0, steps=count)
    assert is_met(1.0, largest, count)
    assert not is_met(1.0, largest * (1 + 2e-6), count)
    run = {"noise_multiplier": 1.0, "steps": count}
    size = accounting.batch_size(**options, **run, dataset_size=1000)
    assert size == math.floor(1000 * largest * (1 + 1e-6))
    assert is_met(1.0, size / 1000, count)
    assert not is_met(1.0, (size + 1) / 1000, count)


@pytest.mark.parametrize("relation", ["add_or_remove", "replace_one"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: next(iter(t)))
def test_after_a_gaussian_release_squares_of_mu_add_up(target, relation):
    run = {"sample_rate": 1.0, "steps": 4, "relation": relation}
    alone = accounting.noise_multiplier(**target, **run)  # four of these spend all there is
    sigma = accounting.noise_multiplier(**target, **run, after=Gaussian(alone))
    assert sigma == pytest.approx(alone * math.sqrt(4 / 3), rel=4e-6)


@pytest.mark.parametrize("before", [Gaussian(0.5), ApproxDP(0.1, 1e-4)], ids=repr)
def test_what_was_released_before_may_leave_no_room(before):
    target = {"target_epsilon": 1.0, "delta": 1e-5, "after": before}
    message = "a target that .* meets .*cannot be taken back"
    with pytest.raises(ValueError, match=message):
        accounting.noise_multiplier(**target, sample_rate=0.0, steps=1)
    with pytest.raises(ValueError, match=message):
        accounting.steps(**target, noise_multiplier=math.inf, sample_rate=0.1)
    with pytest.raises(ValueError, match=message):
        accounting.sample_rate(**target, noise_multiplier=1.0, steps=0)
    with pytest.raises(ValueError, match=message):
        accounting.batch_size(**target, noise_multiplier=1.0, steps=0, dataset_size=10)


def test_after_a_release_that_leaves_next_to_nothing():
    spent = epsilon(Gaussian(2.0), delta=1e-5)
    target = {"target_epsilon": spent, "delta": 1e-5, "after": Gaussian(2.0)}
    with pytest.raises(ValueError, match=r"noise multiplier of 1e\+06"):
        accounting.noise_multiplier(**target, sample_rate=1.0, steps=10_000)
    assert accounting.steps(**target, noise_multiplier=1.0, sample_rate=1.0) == 0
    assert accounting.batch_size(**target, noise_multiplier=1.0, steps=9, dataset_size=10) == 0
    assert accounting.noise_multiplier(**target, sample_rate=0.5, steps=0) == 0.0
    assert accounting.sample_rate(**target, noise_multiplier=1.0, steps=0) == 1.0


def test_what_was_released_before_is_an_event():
    with pytest.raises(TypeError, match="expected an event but got 'float'"):
        accounting.noise_multiplier(**TARGETS[0], sample_rate=0.1, steps=1, after=2.0)


def test_batch_size_for_another_target():
    options = {"target_advantage": 0.2, "relation": "replace_one"}
    run = {"noise_multiplier": 1.5, "steps": 2000}
    size = accounting.batch_size(**options, **run, dataset_size=5000)
    assert meets(options, 1.5, size / 5000, 2000, "replace_one")
    assert not meets(options, 1.5, (size + 1) / 5000, 2000, "replace_one")


@pytest.mark.parametrize(("alpha", "mu"), [(0.05, 1.0), (0.4, 0.5), (0.01, 3.0)])
def test_other_targets_of_the_gaussian_mechanism(alpha, mu):
    once = {"sample_rate": 1.0, "steps": 1}
    beta = float(ndtr(-ndtri(alpha) - mu))
    sigma = accounting.noise_multiplier(target_tradeoff=(alpha, beta), **once)
    assert sigma == pytest.approx(1 / mu, rel=3e-6)
    sigma = accounting.noise_multiplier(target_advantage=float(2 * ndtr(mu / 2) - 1), **once)
    assert sigma == pytest.approx(1 / mu, rel=3e-6)


def test_rare_records_need_no_noise_for_other_targets():
    options = {"sample_rate": 1e-3, "steps": 100}  # read with probability 0.095
    assert accounting.noise_multiplier(target_advantage=0.1, **options) == 0.0
    assert accounting.noise_multiplier(target_tradeoff=(0.1, 0.8), **options) == 0.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "expected one target"),
        ({"target_epsilon": 1.0}, "expected a probability 0 < delta <= 1"),
        ({"delta": 1e-5}, "expected one target"),
        ({"target_epsilon": 1.0, "delta": 1e-5, "target_advantage": 0.1}, "expected one target"),
        ({"target_advantage": 0.1, "delta": 1e-5}, "expected one target"),
        ({"target_advantage": 0.1, "target_tradeoff": (0.1, 0.1)}, "expected one target"),
        ({"target_advantage": 1.0}, "0 < target_advantage < 1"),
        ({"target_advantage": math.nan}, "0 < target_advantage < 1"),
        ({"target_tradeoff": (0.5, 0.5)}, r"alpha \+ beta < 1"),
        ({"target_tradeoff": (0.0, 0.5)}, r"alpha \+ beta < 1"),
        ({"target_tradeoff": 0.5}, r"alpha \+ beta < 1"),
    ],
)
def test_one_target_in_range_is_asked_for(target, message):
    run = {"noise_multiplier": 1.0, "sample_rate": 0.1}
    with pytest.raises(ValueError, match=message):
        accounting.steps(**target, **run)


def test_the_value_of_the_gaussian_mechanism():
    sigma = accounting.noise_multiplier(
        target_epsilon=4.377178095681, delta=1e-5, sample_rate=1.0, steps=1
    )
    assert sigma == pytest.approx(1.0, rel=1e-5)


def test_no_noise_where_none_is_needed():
    options = {"target_epsilon": 1.0, "delta": 1e-5}
    assert accounting.noise_multiplier(**options, sample_rate=0.1, steps=0) == 0.0
    assert accounting.noise_multiplier(**options, sample_rate=0.0, steps=9) == 0.0
    assert (
        accounting.noise_multiplier(target_epsilon=1.0, delta=1.0, sample_rate=0.1, steps=9) == 0.0
    )


def test_targets_that_cannot_be_met_are_refused():
    with pytest.raises(ValueError, match=r"noise multiplier of 1e\+06"):
        accounting.noise_multiplier(target_epsilon=1e-9, delta=1e-20, sample_rate=1.0, steps=10**6)
    with pytest.raises(ValueError, match="a rate of 1e-12"):
        accounting.sample_rate(target_epsilon=1e-3, delta=1e-30, noise_multiplier=0.0, steps=10)
    with pytest.raises(ValueError, match="never reached"):
        accounting.steps(target_epsilon=1.0, delta=1e-5, noise_multiplier=math.inf, sample_rate=1.0)


def test_zero_steps_where_one_is_too_many():
    options = {"delta": 1e-5, "noise_multiplier": 0.5, "sample_rate": 1.0}
    assert accounting.steps(target_epsilon=0.1, **options) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_bad_target_is_refused(bad):
    with pytest.raises(ValueError, match="expected target_epsilon > 0"):
        accounting.steps(target_epsilon=bad, delta=1e-5, noise_multiplier=1.0, sample_rate=1.0)
    with pytest.raises(ValueError, match="expected a probability 0 < delta <= 1"):
        accounting.steps(target_epsilon=1.0, delta=bad, noise_multiplier=1.0, sample_rate=1.0)


@pytest.mark.parametrize("slope", [0.3, 0.8, 1.3])
@pytest.mark.parametrize("room", [0.0, 1e-9, 1e-7])
def test_a_limit_that_just_meets_the_target_is_found(slope, room):
    """Beyond a rate of 1 there is nothing, so that a search there would not end."""
    asked = []

    class Sloping:
        def excess(self, event, relation):
            asked.append(event)
            assert len(asked) < 100
            (gaussian,) = event.events if hasattr(event, "events") else (event,)
            return -slope * math.log(gaussian.noise_multiplier) - room

    frontier = Frontier(
        lambda x: Gaussian(math.exp(-min(x, 0.0))), Sloping(), Compose(()), "add_or_remove"
    )
    found = frontier.boundary(Guess(-1e-4, 1.0), -1.0, (-27.0, 0.0))
    assert -1e-6 <= found <= 0.0


@pytest.mark.parametrize("tolerance", [1e-3, 0.05])
def test_a_coarse_answer_meets_the_target_and_is_as_near_as_asked(tolerance):
    options = {"target_epsilon": 2.0, "delta": 1e-5, "sample_rate": 0.02, "steps": 700}
    coarse = accounting.noise_multiplier(**options, tolerance=tolerance)
    assert spent(coarse, 0.02, 700, 1e-5) <= 2.0
    best = accounting.noise_multiplier(**options)
    assert best <= coarse * (1 + 1e-6) <= best * (1 + tolerance) * (1 + 1e-5)


@pytest.mark.parametrize("tolerance", [0.0, 1e-9, 0.2, True, float("nan")])
def test_a_tolerance_that_is_none(tolerance):
    with pytest.raises(ValueError, match=r"^noise_multiplier: expected a tolerance between"):
        accounting.noise_multiplier(
            target_epsilon=1.0, delta=1e-5, sample_rate=0.1, steps=10, tolerance=tolerance
        )
