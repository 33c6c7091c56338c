"""What whole runs cost, beside the numbers of the reference: bins, and the trial on images."""

import math

import pytest

from dpfunc import accounting, correlated, sampling
from tests.strategies.test_make import REFERENCE

BINS, SIZE, EPSILON = REFERENCE["bins"], 1000, 1.0
# Of each reference: steps, bins, epochs, noise multiplier, coefficients of C.
SETTINGS = {
    "n100_b10_k10_sigma4_eps1/identity": (100, 10, 10, 4.0, (1.0,)),
    "n100_b10_k10_sigma4_eps1/[1,.5,.25,.125] normalised": (
        *(100, 10, 10, 4.0),
        (1.0, 0.5, 0.25, 0.125),
    ),
    "n64_b16_k4_sigma2_eps1/identity": (64, 16, 4, 2.0, (1.0,)),
    "n64_b16_k4_sigma2_eps1/square root, 4 bands, normalised": (
        *(64, 16, 4, 2.0),
        correlated.square_root(steps=4, bits=None).coefficients,
    ),
    "n64_b16_k4_sigma2_eps1/square root, 16 bands, normalised": (
        *(64, 16, 4, 2.0),
        correlated.square_root(steps=16, bits=None).coefficients,
    ),
}


def delta(event):
    return accounting.delta(event, epsilon=EPSILON)


def in_bins(key):
    steps, bins, _, s, numbers = SETTINGS[key]
    strategy = correlated.Toeplitz(steps, numbers)
    sampler = sampling.BallsInBins(size=SIZE, bins=bins)
    return delta(sampler.event(s, steps=steps, strategy=strategy))


def test_every_setting_is_used():
    assert set(SETTINGS) == set(BINS)


@pytest.mark.parametrize("key", SETTINGS)
def test_bins_cost_no_less_than_they_do_in_simulations(key):
    """Equal, but for what a simulation misses, where bounds are exact: C = I."""
    known, ours = BINS[key], in_bins(key)
    remove, error = known["mc_remove"], known["mc_remove_se"]
    if key.endswith("identity"):
        assert ours == pytest.approx(remove, abs=4 * error)
    else:
        assert ours > remove + 4 * error
    assert ours > known["mc_add"] + 4 * known["mc_add_se"]


@pytest.mark.parametrize("key", [k for k in SETTINGS if k.endswith("identity")])
def test_bins_beside_other_samples_of_the_same_size(key):
    (steps, bins, epochs, s, _), known = SETTINGS[key], BINS[key]
    bound = known["random_allocation_one_draw_sigma_over_sqrt_k"]
    assert in_bins(key) == pytest.approx(bound, rel=1e-9)
    fresh = sampling.Allocation(size=SIZE, steps=bins, participations=1).event(s, steps=steps)
    listed = known["random_allocation_fresh_each_epoch"]
    assert listed * (1 - 1e-9) <= delta(fresh) <= listed * 1.002  # the tolerance of `delta`
    poisson = sampling.Poisson(size=SIZE, rate=1 / bins).event(s, steps=steps)
    assert delta(poisson) == pytest.approx(known["poisson"], rel=1e-9)
    once = accounting.Gaussian(s / math.sqrt(epochs))
    assert delta(once) == pytest.approx(known["unamplified"], rel=1e-9)


def test_bands_in_bins_beside_cyclic_samples_and_none():
    key = "n64_b16_k4_sigma2_eps1/square root, 4 bands, normalised"
    steps, bins, _, s, numbers = SETTINGS[key]
    strategy = correlated.Toeplitz(steps, numbers)
    cyclic = sampling.CyclicPoisson(size=SIZE, rate=4 / bins, cycle=4)
    event = cyclic.event(s, steps=steps, strategy=strategy)
    assert delta(event) == pytest.approx(BINS[key]["cyclic_poisson_same_batch"], rel=1e-3)
    key = "n64_b16_k4_sigma2_eps1/square root, 16 bands, normalised"
    strategy = correlated.Toeplitz(steps, SETTINGS[key][-1])
    event = correlated.unamplified(s, strategy, correlated.Participation(4, bins))
    assert delta(event) == pytest.approx(BINS[key]["unamplified"], rel=1e-9)


@pytest.mark.parametrize("key", REFERENCE["trial_noise"])
def test_the_noise_of_the_trial_on_images(key):
    """400 steps, 4 epochs of 20,000 images, momentum .9, delta 1e-5."""
    run, _, kind = key.partition("/")
    epsilon, bands = float(run.partition("eps")[2]), int(kind.rpartition("_")[2])
    workload = correlated.momentum(400, beta=0.9)
    strategy = correlated.banded(steps=400, bands=bands, workload=workload)
    if "shuffled" in kind:
        sampler, relation = sampling.Shuffled(size=20_000, batch_size=200), "zero_out"
    else:
        rate = bands * 200 / 20_000
        sampler = sampling.CyclicPoisson(size=20_000, rate=rate, cycle=bands)
        relation = "add_or_remove"
    s = correlated.noise_multiplier(
        target_epsilon=epsilon, delta=1e-5, sampler=sampler, strategy=strategy, relation=relation
    )
    assert s == pytest.approx(REFERENCE["trial_noise"][key], rel=3e-6)
