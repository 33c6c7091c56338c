"""A pair that is given: delta is a sum over the outcomes, whatever is done with it."""

import math
from itertools import product

import pytest

from dpfunc.accounting import (
    Group,
    Pair,
    Poisson,
    delta,
    delta_bounds,
    epsilon,
    from_json,
    to_json,
)

P, Q = (0.5, 0.3, 0.15, 0.05, 0.0), (0.2, 0.3, 0.3, 0.15, 0.05)


def exact(p, q, epsilon, times=1):
    """By listing every sequence of outcomes."""
    total = 0.0
    for outcomes in product(range(len(p)), repeat=times):
        a, b = math.prod(p[i] for i in outcomes), math.prod(q[i] for i in outcomes)
        total += max(0.0, a - math.exp(epsilon) * b)
    return total


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("e", [0.0, 0.3, 1.1])
def test_delta_is_the_sum_over_outcomes(times, e):
    for relation, (p, q) in (("remove", (P, Q)), ("add", (Q, P))):
        found = delta_bounds(Pair(P, Q) * times, epsilon=e, relation=relation)
        assert found.lower <= exact(p, q, e, times) * (1 + 1e-12)
        assert found.upper == pytest.approx(exact(p, q, e, times), rel=1e-9)
    both = max(exact(P, Q, e, times), exact(Q, P, e, times))
    assert delta(Pair(P, Q) * times, epsilon=e) == pytest.approx(both, rel=1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_a_sample_of_it_mixes_the_outcomes(rate):
    mixed = [(1 - rate) * q + rate * p for p, q in zip(P, Q, strict=True)]
    event = Poisson(rate, Pair(P, Q)) * 3
    for e in (0.0, 0.2):
        removed = delta(event, epsilon=e, relation="remove")
        added = delta(event, epsilon=e, relation="add")
        assert removed == pytest.approx(exact(mixed, Q, e, 3), rel=1e-9)
        assert added == pytest.approx(exact(Q, mixed, e, 3), rel=1e-9)


def test_edges():
    assert epsilon(Pair((0.5, 0.5), (0.5, 0.5)), delta=1e-9) == 0
    assert epsilon(Pair((1.0, 0.0), (0.0, 1.0)), delta=0.5) == math.inf
    assert epsilon(Pair(Q, P) * 2, delta=1e-9, relation="remove") == math.inf
    assert from_json(to_json(Pair(P, Q) * 2)) == Pair(P, Q) * 2
    assert repr(Pair((1.0,), (1.0,))) == "Pair((1.0,), (1.0,))"


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ((0.5, 0.6), (0.5, 0.5)),
        ((1.0,), (0.5, 0.5)),
        ((), ()),
        ([1.0], [1.0]),
        ((1.5, -0.5), Q[:2]),
    ],
)
def test_what_is_no_pair_is_refused(p, q):
    with pytest.raises(ValueError, match="Pair: expected"):
        Pair(p, q)


def test_what_is_not_proven_is_refused():
    for event, relation in ((Pair(P, Q), "replace_one"), (Group(2, Pair(P, Q)), "remove")):
        with pytest.raises(ValueError, match="no bound is proven"):
            epsilon(event, delta=1e-5, relation=relation)


def test_a_pair_of_losses_is_the_pair():
    """Losses of ``P`` against ``Q``; ``Q``'s last outcome never comes under ``P``."""
    losses = [math.log(p / q) for p, q in zip(P, Q, strict=True) if p > 0]
    found = Pair.of_losses(losses, P[:4])
    for times in (1, 3):
        for relation in ("remove", "add"):
            for e in (0.0, 0.4):
                options = {"epsilon": e, "relation": relation}
                same = delta(Pair(P, Q) * times, **options)
                assert delta(found * times, **options) == pytest.approx(same, rel=1e-12)


def test_losses_without_a_remainder_leave_none():
    """Of randomised response: log 3 and -log 3. What rounding leaves is no outcome."""
    loss = math.log(3)
    pair = Pair.of_losses((loss, -loss), (0.75, 0.25))
    assert len(pair.q) == 2
    assert epsilon(pair, delta=0.0) == pytest.approx(loss)


def test_a_small_remainder_is_kept_however_many_outcomes_there_are():
    """Each of 2**18 outcomes is 2**-36 less likely without the record, exactly; so one is left."""
    count, rest = 2**18, 2.0**-36
    loss = -math.log1p(-rest)
    pair = Pair.of_losses([loss] * count, [1 / count] * count)
    assert pair.q[-1] == pytest.approx(rest, rel=1e-4)
    assert delta(pair, epsilon=1.0, relation="add") >= rest * (1 - 1e-4)


def test_an_infinite_loss_gives_the_record_away():
    pair = Pair.of_losses((0.0, math.inf, 800.0), (0.97, 0.02, 0.01))
    assert pair.q == (0.97, 0.0, 0.0, pytest.approx(0.03))
    assert delta(pair, epsilon=50.0, relation="remove") == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("losses", "probabilities", "said"),
    [
        ((0.5, -0.5), (0.6, 0.4), "a mean of exp"),
        ((0.5,), (0.5, 0.5), "one for each probability"),
        ((-math.inf, 1.0), (0.5, 0.5), "losses that are numbers"),
        ((1.0, 2.0), (0.5, 1.5), "between 0 and 1"),
        ((1.0, 2.0), (0.5, 0.4), "sum to 1"),
    ],
)
def test_losses_of_no_pair(losses, probabilities, said):
    with pytest.raises(ValueError, match=rf"^Pair.*{said}"):
        Pair.of_losses(losses, probabilities)
