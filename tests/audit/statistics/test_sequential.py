"""The bets of a sequential test: each has mean 1 at most, and together they find what is wrong."""

import numpy as np
import pytest

from dpfunc import accounting, audit


def guess_by(bit, member):
    return np.where(bit, "in", "out")


def test_a_leak_is_found_and_soon():
    rng = np.random.default_rng(0)
    test = audit.Sequential(accounting.PureDP(1.0))
    state = test.init()
    while state.p_value > 0.01:
        member = bool(rng.random() < 0.5)
        right = rng.random() < 0.95  # epsilon 2.9
        state = test.update(member, "in" if member == right else "out", state)
    assert state.trials < 150


def test_noise_is_judged_by_its_whole_curve():
    rng = np.random.default_rng(1)
    test = audit.Sequential(accounting.Gaussian(2.0))
    state = test.init()
    for _ in range(2000):
        member = bool(rng.random() < 0.5)
        seen = rng.normal() * 0.5 + member  # of Gaussian(0.5)
        state = test.update(member, "in" if seen > 1.2 else None, state)
    assert state.p_value < 1e-3


def test_abstaining_costs_half_of_delta():
    test = audit.Sequential(accounting.ApproxDP(1.0, 0.2))
    state = test.update(True, "in", test.init())
    state = test.update(True, "in", state)
    before = np.exp(state.log_capital[0])
    bet = state.won[0] / state.squares[0]
    bet = min(bet, 0.5 / (np.e + 0.1))
    after = np.exp(test.update(True, None, state).log_capital[0])
    assert after / before == pytest.approx(1 - bet * 0.1)


def test_many_at_once_are_each_by_itself():
    rng = np.random.default_rng(2)
    test = audit.Sequential(accounting.PureDP(0.2))
    member, guess = rng.random((30, 4)) < 0.5, rng.random((30, 4)) < 0.5
    together = test.init()
    for m, g in zip(member, guess, strict=True):
        together = test.after(m, g, ~g, together)
    for i in range(4):
        alone = test.init()
        for m, g in zip(member[:, i], guess[:, i], strict=True):
            alone = test.update(bool(m), "in" if g else "out", alone)
        assert alone.p_value == pytest.approx(together.p_value[i])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda t: t.update(True, "yes", t.init()), 'a guess "in"'),
        (lambda t: t.update(1, "in", t.init()), "True or False"),
    ],
)
def test_a_trial_is_what_it_says(call, reason):
    with pytest.raises(ValueError, match=reason):
        call(audit.Sequential(accounting.PureDP(1.0)))
