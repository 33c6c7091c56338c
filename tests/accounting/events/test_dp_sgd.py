import math

import pytest

from dpfunc.accounting import Compose, Gaussian, Poisson, Repeat, dp_sgd
from dpfunc.accounting.events.dp_sgd import Phase, phases

STEP = Poisson(0.1, Gaussian(2.0))


def test_dp_sgd_is_repeated_poisson_gaussian():
    assert dp_sgd(noise_multiplier=2.0, sample_rate=0.1, steps=7) == Repeat(STEP, 7)


def test_events_are_values():
    assert hash(Repeat(STEP, 7)) == hash(Repeat(Poisson(0.1, Gaussian(2.0)), 7))
    assert Compose((STEP, STEP)) != Compose((STEP,))
    with pytest.raises(AttributeError):
        STEP.sample_rate = 0.2


def test_phases_flatten_and_join():
    event = Compose((Repeat(Compose((STEP, Gaussian(1.0))), 3), STEP, Repeat(Repeat(STEP, 2), 5)))
    assert sorted(phases(event)) == [Phase(1.0, 1.0, 3), Phase(2.0, 0.1, 14)]


@pytest.mark.parametrize(
    "nothing",
    [Compose(()), Repeat(STEP, 0), Poisson(0.0, Gaussian(1.0)), Gaussian(math.inf)],
)
def test_what_releases_nothing_is_left_out(nothing):
    assert phases(nothing) == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Gaussian(-1.0), ValueError, "expected noise_multiplier >= 0 but got -1.0"),
        (lambda: Gaussian(math.nan), ValueError, "expected noise_multiplier >= 0"),
        (lambda: Poisson(1.5, Gaussian(1.0)), ValueError, "expected a probability"),
        (lambda: Poisson(math.nan, Gaussian(1.0)), ValueError, "expected a probability"),
        (lambda: Poisson(0.1, Repeat(STEP, 2)), TypeError, "expected one mechanism"),
        (lambda: Repeat(STEP, -1), ValueError, "expected an int times >= 0 and at most"),
        (lambda: Repeat(STEP, 10**400), ValueError, "at most 2"),
        (lambda: Repeat(STEP, 2.0), ValueError, "expected an int times >= 0"),
        (lambda: phases("gaussian"), TypeError, "expected an event but got"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
