"""C8, C9, C10: what a sampler and a strategy cost together, or that nobody knows."""

import math

import numpy as np
import pytest

from dpfunc import accounting, correlated, sampling
from dpfunc.accounting import Gaussian, OneRecord, Poisson, RandomAllocation
from dpfunc.accounting import Shuffled as ShuffledEvent
from tests.strategies.test_make import REFERENCE

STEPS, S = 24, 2.0
STRATEGIES = {
    None: None,
    "identity": correlated.identity(steps=STEPS),
    "2 bands": correlated.banded(steps=STEPS, bands=2),
    "4 bands": correlated.banded(steps=STEPS, bands=4),
    "9 bands": correlated.banded(steps=STEPS, bands=9),
    "fractional": correlated.fractional(steps=STEPS, bands=4, exponent=0.8),
    "buffered": correlated.Buffered(STEPS, (0.9,), (0.5,)),
}
SAMPLERS = {
    "Poisson": sampling.Poisson(size=60, rate=0.2),
    "TruncatedPoisson": sampling.TruncatedPoisson(size=60, rate=0.2, most=20),
    "FixedSize": sampling.FixedSize(size=60, batch_size=10),
    "cyclic": sampling.CyclicPoisson(size=60, rate=0.6, cycle=4),
    "bins": sampling.BallsInBins(size=60, bins=8),
    "Allocation": sampling.Allocation(size=60, steps=8, participations=2),
    "Shuffled": sampling.Shuffled(size=60, batch_size=10),
}


def close(event, expected):
    """Equal but for noise that is rounded down."""
    assert type(event) is type(expected)
    for name, value in vars(expected).items():
        got = getattr(event, name)
        if isinstance(value, float):
            assert value * (1 - 1e-11) <= got <= value
        elif isinstance(value, accounting.Event):
            close(got, value)
        else:
            assert got == value


def unamplified(name, participation):
    strategy = STRATEGIES[name]
    sens = correlated.sensitivity(strategy, participation)
    return Gaussian(S * correlated.column_norm(strategy) / sens)


PROMISED = {
    "bins": correlated.Participation(3, 8, evenly_spaced=True),
    "Allocation": correlated.Participation(6, 1),
    "Shuffled": correlated.Participation(4, 6, evenly_spaced=True),
}


def table(sampler, strategy):
    """What the pair costs over 24 steps, by theorem; None where none is known."""
    plain = strategy in (None, "identity")
    bands = None if strategy is None else STRATEGIES[strategy].bands
    match sampler:
        case "Poisson":
            return Poisson(0.2, Gaussian(S)) * 24 if plain else None
        case "TruncatedPoisson":
            leaf = accounting.TruncatedPoisson(0.2, 20, 60, Gaussian(S))
            return leaf * 24 if plain else None
        case "FixedSize":
            return accounting.WithoutReplacement(10, 60, Gaussian(S)) * 24 if plain else None
        case "cyclic":
            fits = plain or (bands is not None and bands <= 4)
            return OneRecord(Poisson(0.6, Gaussian(S))) * 6 if fits else None
        case "bins":
            left = {None: 8, "identity": 8, "2 bands": 4, "4 bands": 2}
            if strategy in left:
                return RandomAllocation(1, left[strategy], Gaussian(S / math.sqrt(3)))
            return unamplified(strategy, PROMISED["bins"])
        case "Allocation":
            if plain:
                return RandomAllocation(2, 8, Gaussian(S)) * 3
            return unamplified(strategy, PROMISED["Allocation"])
        case "Shuffled":
            if plain:
                return ShuffledEvent(Gaussian(S)) * 4
            return ShuffledEvent(unamplified(strategy, PROMISED["Shuffled"]))
    raise AssertionError(sampler)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_event_is_that_of_the_theorem_or_there_is_none(sampler, strategy):
    expected = table(sampler, strategy)
    if expected is None:
        with pytest.raises(ValueError, match=r"no theorem is known|at most 4 bands"):
            SAMPLERS[sampler].event(S, steps=24, strategy=STRATEGIES[strategy])
    else:
        close(SAMPLERS[sampler].event(S, steps=24, strategy=STRATEGIES[strategy]), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_steps_than_the_strategy_has_are_refused(sampler):
    with pytest.raises(ValueError, match="at most 24 steps"):
        SAMPLERS[sampler].event(S, steps=25, strategy=STRATEGIES["2 bands"])
    with pytest.raises(TypeError, match="expected a strategy"):
        SAMPLERS[sampler].event(S, steps=5, strategy="banded")


@pytest.mark.parametrize("sampler", ["cyclic", "bins", "Shuffled", "Allocation"])
def test_a_stopped_run_costs_no_more_than_the_whole(sampler):
    """C10."""
    relation = "zero_out" if sampler == "Shuffled" else "add_or_remove"
    for strategy in (None, "2 bands"):
        costs = []
        for steps in (0, 5, 9, 24):
            event = SAMPLERS[sampler].event(S, steps=steps, strategy=STRATEGIES[strategy])
            costs.append(accounting.epsilon(event, delta=1e-5, relation=relation, tol=1e-2))
        assert costs == sorted(costs)


def test_what_has_begun_counts():
    """A record may have taken part in a cycle or an epoch that is not over."""
    assert SAMPLERS["cyclic"].event(S, steps=9) == OneRecord(Poisson(0.6, Gaussian(S))) * 3
    assert SAMPLERS["Allocation"].event(S, steps=9) == RandomAllocation(2, 8, Gaussian(S)) * 2
    assert SAMPLERS["Shuffled"].event(S, steps=7) == ShuffledEvent(Gaussian(S)) * 2
    close(SAMPLERS["bins"].event(S, steps=9), RandomAllocation(1, 8, Gaussian(S / math.sqrt(2))))


def test_shuffled_data_are_refused_under_adding_a_record():
    """Trap 9: with a strategy, too."""
    event = SAMPLERS["Shuffled"].event(S, steps=24, strategy=STRATEGIES["fractional"])
    with pytest.raises(ValueError, match="no bound is proven"):
        accounting.epsilon(event, delta=1e-5)
    assert accounting.epsilon(event, delta=1e-5, relation="zero_out") > 0


def test_the_same_bins_are_not_fresh_ones():
    """Trap 8: true delta 1.57(6)e-4 by simulation; fresh bins would say 3.9e-6."""
    event = sampling.BallsInBins(size=1000, bins=10).event(4.0, steps=100)
    assert accounting.delta(event, epsilon=1.0) == pytest.approx(1.5227e-4, rel=1e-3)


@pytest.mark.parametrize("key", REFERENCE["balls"])
def test_bands_in_bins_against_simulation(key):
    """C9: above the simulated delta by more than its error, and the number of the other program."""
    known = REFERENCE["balls"][key]
    parts = {p[0]: p[1:] for p in key.replace("sigma", "s").replace("eps", "e").split("_")}
    n, bins, s, p = int(parts["n"]), int(parts["b"]), float(parts["s"]), int(parts["p"])
    strategy = correlated.banded(steps=n, bands=p)
    event = sampling.BallsInBins(size=1000, bins=bins).event(s, steps=n, strategy=strategy)
    delta = accounting.delta(event, epsilon=1.0)
    assert delta == pytest.approx(known["revealed_allocation_bound"], rel=1e-3)
    for direction in ("remove", "add"):
        assert delta > known[f"mc_{direction}"] + 4 * known[f"mc_{direction}_se"]
    scaled = np.array(strategy.coefficients) / np.linalg.norm(strategy.coefficients)
    assert scaled == pytest.approx(known["coefs"], abs=1e-5)  # ours are multiples of 2**-16
    cyclic = sampling.CyclicPoisson(size=1000, rate=p / bins, cycle=p)
    delta = accounting.delta(cyclic.event(s, steps=n, strategy=strategy), epsilon=1.0)
    assert delta == pytest.approx(known["cyclic_poisson"], rel=1e-3)
    promise = correlated.Participation(int(parts["k"]), bins)
    delta = accounting.delta(correlated.unamplified(s, strategy, promise), epsilon=1.0)
    assert delta == pytest.approx(known["unamplified"], rel=1e-10)


AMPLIFIED = ["n2048_k4_eps8.0_delta1e-06/bands16", "n1024_k16_eps2.0_delta1e-05/bands4"]


@pytest.mark.parametrize(
    "key",
    [
        k if k in AMPLIFIED else pytest.param(k, marks=pytest.mark.nightly)
        for k in REFERENCE["amplified"]
    ],
)
def test_calibrated_noise_with_amplification(key):
    known, (n, _, eps, delta) = REFERENCE["amplified"][key], key.split("/")[0].split("_")
    steps, bands = int(n[1:]), int(key.rpartition("bands")[2])
    sampler = sampling.CyclicPoisson(size=10_000, rate=known["sample_rate"], cycle=bands)
    strategy = correlated.banded(steps=steps, bands=bands)
    target = {"target_epsilon": float(eps[3:]), "delta": float(delta[5:])}
    s = correlated.noise_multiplier(**target, sampler=sampler, strategy=strategy)
    assert s == pytest.approx(known["noise_multiplier"], rel=3e-6)
    errors = correlated.errors(strategy) ** 0.5 * correlated.column_norm(strategy)
    assert s * (errors**2).mean() ** 0.5 == pytest.approx(known["rmse"], rel=1e-4)
    assert s * errors.max() == pytest.approx(known["root_max"], rel=1e-4)
    turn = Poisson(known["sample_rate"], Gaussian(s))
    event = (OneRecord(turn) if bands > 1 else turn) * known["steps"]
    assert sampler.event(s, steps=steps, strategy=strategy) == event


def test_calibration_without_amplification_is_that_of_one_release():
    sampler = sampling.Shuffled(size=60, batch_size=10)
    options = {"target_epsilon": 2.0, "delta": 1e-5, "relation": "zero_out"}
    strategy = STRATEGIES["fractional"]
    s = correlated.noise_multiplier(**options, sampler=sampler, strategy=strategy)
    once = accounting.noise_multiplier(target_epsilon=2.0, delta=1e-5, sample_rate=1.0, steps=1)
    sens = correlated.sensitivity(strategy, PROMISED["Shuffled"])
    assert s * correlated.column_norm(strategy) / sens == pytest.approx(once, rel=3e-6)
    with pytest.raises(ValueError, match="steps, or a strategy"):
        correlated.noise_multiplier(**options, sampler=sampler)


def test_cyclic_poisson_is_attained_and_bands_beyond_the_cycle_are_not_covered():
    """Two bands in a cycle of one: both steps of the record in one block, exactly computed."""
    strategy = correlated.Toeplitz(2, (1.0, 1.0))
    fits = sampling.CyclicPoisson(size=10, rate=1.0, cycle=2).event(1.0, steps=2, strategy=strategy)
    assert fits == OneRecord(Poisson(1.0, Gaussian(1.0))) * 1
    with pytest.raises(ValueError, match="at most 1 bands"):
        sampling.CyclicPoisson(size=10, rate=1.0, cycle=1).event(1.0, steps=2, strategy=strategy)
    true = Gaussian(correlated.column_norm(strategy) / math.sqrt(1 + 4))  # rows 1, 1 + 1
    wrong = Gaussian(1.0) * 2
    assert accounting.delta(true, epsilon=1.0) > accounting.delta(wrong, epsilon=1.0)
