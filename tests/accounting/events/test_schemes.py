"""What each sampling scheme refuses."""

import math

import pytest

from dpfunc.accounting import (
    Compose,
    Gaussian,
    Group,
    Poisson,
    RandomAllocation,
    Repeat,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)

G = Gaussian(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda event: Poisson(0.1, event),
        lambda event: TruncatedPoisson(0.1, 5, 10, event),
        lambda event: WithoutReplacement(1, 10, event),
        lambda event: WithReplacement(1, 10, event),
        lambda event: RandomAllocation(1, 10, event),
        Shuffled,
    ],
)
@pytest.mark.parametrize("event", [Repeat(G, 2), Compose((G,)), Poisson(0.1, G), Group(2, G), 1.0])
def test_one_sample_serves_one_mechanism(make, event):
    with pytest.raises(TypeError, match="expected one mechanism"):
        make(event)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "0.1", True])
def test_a_bad_rate_is_refused(bad):
    for make in (lambda: Poisson(bad, G), lambda: TruncatedPoisson(bad, 5, 10, G)):
        with pytest.raises(ValueError, match="a probability 0 <= sample_rate <= 1"):
            make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TruncatedPoisson(0.1, 0, 10, G), "an int max_batch_size >= 1"),
        (lambda: TruncatedPoisson(0.1, 5, 0, G), "an int dataset_size >= 1"),
        (lambda: WithoutReplacement(11, 10, G), "an int 0 <= batch_size <= dataset_size"),
        (lambda: WithoutReplacement(1, 0, G), "an int dataset_size >= 1"),
        (lambda: WithReplacement(-1, 10, G), "an int batch_size >= 0"),
        (lambda: WithReplacement(1, 2.0, G), "an int dataset_size >= 1"),
        (lambda: RandomAllocation(1, 0, G), "an int steps >= 1"),
        (lambda: RandomAllocation(11, 10, G), "an int 0 <= participations <= steps"),
        (lambda: Group(0, G), "an int records >= 1"),
    ],
)
def test_a_bad_size_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_group_is_of_an_event():
    with pytest.raises(TypeError, match="Group: expected an event"):
        Group(2, 1.0)
