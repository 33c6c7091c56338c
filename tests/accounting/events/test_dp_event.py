"""Interop with dp_accounting: against stand-ins here, and in a process with the real package.

The process runs where a Python with dp_accounting is at hand: this one, or that of the environment
variable DP_ACCOUNTING_PYTHON.
"""

import os
import subprocess
import sys
from dataclasses import make_dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    Compose,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    Poisson,
    PureDP,
    RandomAllocation,
    RandomizedResponse,
    Repeat,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
    from_dp_event,
    to_dp_event,
)
from tests.accounting.strategies import EVENTS

# Attribute names as in dp_accounting 0.6.0 (EpsilonDeltaDpEvent: later versions).
FIELDS = {
    "GaussianDpEvent": "noise_multiplier",
    "LaplaceDpEvent": "noise_multiplier",
    "DiscreteLaplaceDpEvent": "noise_parameter sensitivity",
    "RandomizedResponseDpEvent": "noise_parameter num_buckets",
    "MixtureOfGaussiansDpEvent": "standard_deviation sensitivities sampling_probs",
    "PoissonSampledDpEvent": "sampling_probability event",
    "SampledWithReplacementDpEvent": "source_dataset_size sample_size event",
    "SampledWithoutReplacementDpEvent": "source_dataset_size sample_size event",
    "SelfComposedDpEvent": "event count",
    "ComposedDpEvent": "events",
    "ZCDpEvent": "rho xi",
    "EpsilonDeltaDpEvent": "epsilon delta",
    "NoOpDpEvent": "",
    "NonPrivateDpEvent": "",
    "UnsupportedDpEvent": "",
    "SingleEpochTreeAggregationDpEvent": "noise_multiplier step_counts",
    "TruncatedSubsampledGaussianDpEvent": (
        "dataset_size sampling_probability truncated_batch_size noise_multiplier"
    ),
}
THEIRS = SimpleNamespace(
    **{name: make_dataclass(name, names.split()) for name, names in FIELDS.items()}
)
G = Gaussian(2.0)
PAIRS = [
    (G, THEIRS.GaussianDpEvent(2.0)),
    (Laplace(2.0), THEIRS.LaplaceDpEvent(2.0)),
    (DiscreteLaplace(0.5, 3), THEIRS.DiscreteLaplaceDpEvent(0.5, 3)),
    (RandomizedResponse(0.25, 4), THEIRS.RandomizedResponseDpEvent(0.25, 4)),
    (ZCDP(0.1, 0.2), THEIRS.ZCDpEvent(0.1, 0.2)),
    (ApproxDP(1.0, 1e-6), THEIRS.EpsilonDeltaDpEvent(1.0, 1e-6)),
    (NonPrivate(), THEIRS.NonPrivateDpEvent()),
    (Compose(()), THEIRS.NoOpDpEvent()),
    (Poisson(0.1, G), THEIRS.PoissonSampledDpEvent(0.1, THEIRS.GaussianDpEvent(2.0))),
    (
        WithoutReplacement(5, 100, G),
        THEIRS.SampledWithoutReplacementDpEvent(100, 5, THEIRS.GaussianDpEvent(2.0)),
    ),
    (
        WithReplacement(5, 100, G),
        THEIRS.SampledWithReplacementDpEvent(100, 5, THEIRS.GaussianDpEvent(2.0)),
    ),
    (
        TruncatedPoisson(0.1, 30, 200, G),
        THEIRS.TruncatedSubsampledGaussianDpEvent(200, 0.1, 30, 2.0),
    ),
    (Repeat(G, 7), THEIRS.SelfComposedDpEvent(THEIRS.GaussianDpEvent(2.0), 7)),
    (
        G + Laplace(1.0),
        THEIRS.ComposedDpEvent([THEIRS.GaussianDpEvent(2.0), THEIRS.LaplaceDpEvent(1.0)]),
    ),
    (
        MixtureOfGaussians(2.0, (0.0, 1.0), (0.25, 0.75)),
        THEIRS.MixtureOfGaussiansDpEvent(2.0, [0.0, 1.0], [0.25, 0.75]),
    ),
]
NO_COUNTERPART = [
    DiscreteGaussian(1.0, 1),
    ExponentialMechanism(1.0),
    PureDP(1.0),
    RandomAllocation(1, 10, G),
    Shuffled(G),
    Group(2, G),
    TruncatedPoisson(0.1, 3, 10, Laplace(1.0)),
]


@pytest.fixture
def stand_in(monkeypatch):
    """A dp_accounting made of the stand-ins."""
    monkeypatch.setitem(sys.modules, "dp_accounting", SimpleNamespace(dp_event=THEIRS))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda event: type(event).__name__)
def test_both_ways(ours, theirs, stand_in):
    assert from_dp_event(theirs) == ours
    assert to_dp_event(ours) == theirs


@given(EVENTS)
def test_what_can_be_written_comes_back(event):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "dp_accounting", SimpleNamespace(dp_event=THEIRS))
        try:
            theirs = to_dp_event(event)
        except ValueError as error:
            assert "dp_accounting can describe" in str(error)  # noqa: PT017
            return
    assert from_dp_event(theirs) == event


def test_numpy_numbers_become_plain_ones():
    theirs = THEIRS.SelfComposedDpEvent(THEIRS.GaussianDpEvent(np.float64(2.0)), np.int64(7))
    event = from_dp_event(theirs)
    assert event == G * 7
    assert type(event.times) is int
    mixture = THEIRS.MixtureOfGaussiansDpEvent(2.0, np.array([0.0, 1.0]), np.array([0.25, 0.75]))
    assert from_dp_event(mixture) == PAIRS[-1][0]


@pytest.mark.parametrize(
    "theirs",
    [THEIRS.UnsupportedDpEvent(), THEIRS.SingleEpochTreeAggregationDpEvent(1.0, 8), "event", 1.0],
)
def test_what_has_no_counterpart_here_is_refused(theirs):
    with pytest.raises(ValueError, match="from_dp_event: expected one of"):
        from_dp_event(theirs)


@pytest.mark.parametrize("event", NO_COUNTERPART, ids=repr)
def test_what_has_no_counterpart_there_is_refused(event, stand_in):
    for whole in (event, event * 3, event + G):
        with pytest.raises(ValueError, match="an event that dp_accounting can describe but got"):
            to_dp_event(whole)


def test_their_bad_values_are_refused():
    with pytest.raises(ValueError, match="expected noise_multiplier >= 0"):
        from_dp_event(THEIRS.GaussianDpEvent(-1.0))
    with pytest.raises(TypeError, match="Poisson: expected one mechanism"):
        from_dp_event(THEIRS.PoissonSampledDpEvent(0.1, THEIRS.NoOpDpEvent()))


def test_writing_says_which_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ImportError, match="pip install dp-accounting"):
        to_dp_event(G)


REAL = """
from dp_accounting import dp_event as theirs
from dpfunc import accounting as ours
import sys

assert "torch" not in sys.modules
gaussian = theirs.GaussianDpEvent(2.0)
events = [
    theirs.NoOpDpEvent(),
    theirs.NonPrivateDpEvent(),
    gaussian,
    theirs.LaplaceDpEvent(2.0),
    theirs.DiscreteLaplaceDpEvent(0.5, 3),
    theirs.RandomizedResponseDpEvent(0.25, 4),
    theirs.ZCDpEvent(0.1, 0.2),
    theirs.MixtureOfGaussiansDpEvent(2.0, [0.0, 1.0], [0.25, 0.75]),
    theirs.PoissonSampledDpEvent(0.1, gaussian),
    theirs.SampledWithoutReplacementDpEvent(100, 5, gaussian),
    theirs.SampledWithReplacementDpEvent(100, 5, gaussian),
    theirs.TruncatedSubsampledGaussianDpEvent(200, 0.1, 30, 2.0),
    theirs.SelfComposedDpEvent(gaussian, 7),
    theirs.ComposedDpEvent([gaussian, theirs.LaplaceDpEvent(1.0)]),
]
for event in events:
    read = ours.from_dp_event(event)
    assert ours.from_dp_event(event.to_named_tuple()) == read, event
    assert ours.to_dp_event(read) == event, event
for event in (theirs.UnsupportedDpEvent(), theirs.SingleEpochTreeAggregationDpEvent(1.0, 8)):
    try:
        ours.from_dp_event(event)
    except ValueError:
        continue
    raise SystemExit(f"{event} was read")
print("checked", len(events))
"""


def python_with_dp_accounting():
    if find_spec("dp_accounting"):
        return sys.executable
    return os.environ.get("DP_ACCOUNTING_PYTHON")


@pytest.mark.skipif(python_with_dp_accounting() is None, reason="dp_accounting is not installed")
def test_the_real_package():
    run = subprocess.run(
        [python_with_dp_accounting(), "-c", REAL],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "checked 14\n", run.stderr
