"""The live budget: every answer is the accountant's, in whatever order it is asked."""

import math
from itertools import pairwise

import pytest

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    BudgetCurve,
    Gaussian,
    Laplace,
    Poisson,
    RandomizedResponse,
    dp_sgd,
    epsilon,
    epsilon_bounds,
)
from dpfunc.accounting.questions.budget import block_of

STEP = Poisson(0.01, Gaussian(1.0))
EVENTS = [
    (STEP, "add_or_remove"),
    (Poisson(0.05, Gaussian(2.0)), "replace_one"),
    (Gaussian(30.0), "add_or_remove"),
    (STEP + Gaussian(80.0), "add_or_remove"),
    (Laplace(4.0), "add_or_remove"),
    (ApproxDP(0.02, 1e-8), "add_or_remove"),
    (RandomizedResponse(0.9, 2), "replace_one"),
    (ZCDP(1e-4), "add_or_remove"),
]


@pytest.mark.parametrize(("octaves", "widest"), [(1, 1), (1, 256), (1, 1024), (4, 4096)])
def test_blocks_cover_all_steps_once(octaves, widest):
    last = -1
    for steps in range(5000):
        block = block_of(steps, octaves, widest)
        assert steps in block
        assert len(block) <= widest
        if block.start != last:
            assert steps == block.start
        last = block.start


@pytest.mark.parametrize(("event", "relation"), EVENTS, ids=lambda x: str(x))
@pytest.mark.parametrize("steps", [1, 5, 90])
def test_an_answer_is_certified_and_close(event, relation, steps):
    curve = BudgetCurve(event, delta=1e-5, relation=relation)
    single = epsilon_bounds(event * steps, delta=1e-5, relation=relation, tol=1e-3)
    assert single.lower <= curve(steps) * (1 + 1e-12)
    assert curve(steps) <= single.upper * (1 + 1e-5)


def test_answers_do_not_depend_on_the_order_of_asking():
    forward, backward = (BudgetCurve(STEP, delta=1e-5) for _ in range(2))
    asked = [*range(40), 1000, 1023, 1024, 5000]
    ahead = [forward(steps) for steps in asked]
    back = [backward(steps) for steps in reversed(asked)]
    assert ahead == back[::-1]
    assert forward == backward
    assert all(low <= high for low, high in pairwise(ahead))


def test_the_last_step_within_a_target():
    curve = BudgetCurve(Poisson(0.02, Gaussian(1.5)), delta=1e-6)
    for target in (0.0, 0.3, 1.0, 4.0):
        last = curve.steps_within(target)
        assert curve(last) <= target < curve(last + 1)


def test_a_planned_run_ends_within_its_target():
    """On a lattice the curve may exceed `epsilon`; up to the plan it does not exceed that of it."""
    single = epsilon(STEP * 40, delta=1e-5)
    curve = BudgetCurve(STEP, delta=1e-5, planned=40)
    assert curve(39) < curve(40) <= single < curve(41)
    assert BudgetCurve(STEP, delta=1e-5)(40) == pytest.approx(single, rel=2e-5)


def test_edges():
    assert BudgetCurve(STEP, delta=1e-5)(0) == 0.0
    assert BudgetCurve(dp_sgd(noise_multiplier=1.0, sample_rate=0.0, steps=1), delta=1e-5)(7) == 0
    assert BudgetCurve(Gaussian(0.0), delta=1e-5)(7) == math.inf
    assert BudgetCurve(STEP, delta=0.0)(7) == math.inf
    assert BudgetCurve(STEP, delta=1.0)(7) == 0.0
    assert BudgetCurve(STEP, delta=0.05)(5) == 0.0  # hardly ever read
    assert BudgetCurve(Gaussian(1e-5), delta=1e-5)(70) == epsilon(Gaussian(1e-5) * 70, delta=1e-5)


def test_what_is_refused():
    with pytest.raises(TypeError, match="expected an event"):
        BudgetCurve("dp_sgd", delta=1e-5)
    with pytest.raises(ValueError, match="a probability 0 <= delta <= 1"):
        BudgetCurve(STEP, delta=math.nan)
    with pytest.raises(ValueError, match="relation among"):
        BudgetCurve(STEP, delta=1e-5, relation="neighbours")
    with pytest.raises(ValueError, match="steps, an int >= 0"):
        BudgetCurve(STEP, delta=1e-5)(1.5)
    with pytest.raises(ValueError, match="target_epsilon >= 0"):
        BudgetCurve(STEP, delta=1e-5).steps_within(-1.0)
    with pytest.raises(ValueError, match="the target is never reached"):
        BudgetCurve(Gaussian(math.inf), delta=1e-5).steps_within(1.0)
