"""C12: a clip rule that learns: what it finds, what it tells, and what that costs."""

import math

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc import accounting, sampling
from dpfunc.random.rounded import rounded_normal
from dpfunc.types import Weights
from tests.laws.matrix import Recorder

KEY = dp.key(4)


def rule(start=1.0, count_noise=5.0, size=200, **options):
    return dp.AdaptiveClip(
        start, count_noise=count_noise, expected_batch_size=size, key=KEY, **options
    )


def norms_of(step, count=200):
    return {"w": dp.normal(dp.fold_in(dp.key(8), step), (count,)).exp()}  # of median 1


@pytest.mark.parametrize("start", [0.01, 100.0])
@pytest.mark.parametrize("quantile", [0.3, 0.5])
def test_it_finds_the_quantile_of_fixed_norms(start, quantile):
    clip = rule(start, quantile=quantile)
    state, seen = clip.init(), []
    for step in range(140):
        norms = norms_of(step)
        state = clip.update(norms, torch.ones(200, dtype=torch.bool), state)
        seen.append(math.log(state["norm"]))
    expected = {0.3: -0.5244, 0.5: 0.0}[quantile]  # of a standard normal, the log of the norms
    assert np.mean(seen[-50:]) == pytest.approx(expected, abs=0.08)


def test_weights_are_in_units_of_the_norm():
    clip = rule(2.0)
    norms = {"w": torch.tensor([0.0, 1.0, 2.0, 8.0, math.inf, math.nan])}
    weights = clip.weights(norms, clip.init())
    assert weights.bound == 1.0
    assert weights.values["w"].tolist() == [0.5, 0.5, 0.5, 0.125, 0.0, 0.0]


def test_the_count_and_its_noise_are_exact():
    """``sum (2 b - 1)`` of the samples that count, and a rounded normal of twice the deviation."""
    clip, state = rule(2.0, count_noise=3.0, size=10), {"step": 7, "norm": 2.0, "branches": []}
    norms = {"w": torch.tensor([1.0, 2.0, 3.0, math.nan, math.inf, 0.5])}
    mask = torch.tensor([True, True, True, True, True, False])
    after = clip.update(norms, mask, state)
    noise = int(rounded_normal(dp.fold_in(KEY, "clip count", 7), (1,), scale=6.0))
    share = 0.5 + (2 - 3 + noise) / 20
    assert after["norm"] == pytest.approx(2 * math.exp(-0.2 * (share - 0.5)), rel=1e-12)
    assert after["step"] == 8


def test_one_sample_moves_the_count_by_one_whatever_it_is():
    """Sensitivity by L1's method: what the next norm says about the count, with the same noise."""
    clip, base = rule(1.0, size=50), norms_of(0, 20)["w"]

    def count(norms, mask=None):
        mask = torch.ones(len(norms), dtype=torch.bool) if mask is None else mask
        after = clip.update({"w": norms}, mask, clip.init())
        return -math.log(after["norm"]) / 0.2 * 100

    without = count(base)
    for extra in (0.0, 0.5, 1e9, math.inf, math.nan):
        more = torch.cat([base, torch.tensor([extra])])
        assert abs(count(more) - without) == pytest.approx(1.0, abs=1e-6)
        masked = torch.ones(21, dtype=torch.bool)
        masked[-1] = False
        assert count(more, masked) == pytest.approx(without, abs=1e-9)  # zeroed out: nothing


def private(clip, noise, sampler=None, size=20.0):
    return dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=clip,
        noise=noise,
        expected_batch_size=size,
        sampler=sampler,
    )


def test_the_ledger_has_both():
    noise, clip = dp.GaussianNoise(1.0, key=KEY), rule(count_noise=2.0)
    step, params = private(clip, noise), {"w": torch.zeros(3)}
    state = step.init(params)
    for _ in range(2):
        _, state, _ = step.update(params, torch.ones(20, 3), state)
    joint = (1 + 1 / 16) ** -0.5
    event = step.event(state, sample_rate=0.1)
    assert event == accounting.dp_sgd(
        noise_multiplier=event.event.event.noise_multiplier, sample_rate=0.1, steps=2
    )
    assert joint * (1 - 1e-12) <= event.event.event.noise_multiplier <= joint
    assert clip.noise_left(joint) == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(ValueError, match="count_noise above 2"):
        clip.noise_left(4.0)


def test_with_correlated_noise_under_cyclic_samples_alone():
    strategy = dp.correlated.banded(steps=12, bands=4)
    noise, clip = dp.CorrelatedNoise(1.0, strategy, key=KEY), rule(count_noise=2.0)
    cyclic = sampling.CyclicPoisson(size=160, rate=0.5, cycle=4)
    step, params = private(clip, noise, cyclic), {"w": torch.zeros(3)}
    state = step.init(params)
    for t in range(5):
        indices, mask = cyclic.batch(KEY, t)
        _, state, _ = step.update(params, torch.ones(160, 3)[indices], state, mask)
    assert step.event(state).times == 2
    assert step.event(state).event.event.event.noise_multiplier == pytest.approx((17 / 16) ** -0.5)
    for sampler in (
        sampling.Allocation(size=160, steps=8),
        sampling.Shuffled(size=160, batch_size=20),
    ):
        with pytest.raises(ValueError, match="cyclic Poisson samples for a clip rule"):
            private(clip, noise, sampler)


class Spy:
    """Learns the largest norm, and tells nobody."""

    def init(self):
        return {"most": 0.0}

    def weights(self, norms, state):
        return Weights({name: 1 / (1 + norm) for name, norm in norms.items()}, 1.0)

    def update(self, norms, mask, state):
        return {"most": max(state["most"], float(norms["w"].max()))}


def test_a_rule_that_learns_without_telling_is_refused_before_anything_is_released():
    recorder = Recorder()
    step, params = private(Spy(), recorder), {"w": torch.zeros(3)}
    with pytest.raises(TypeError, match="query_multiplier"):
        step.update(params, torch.ones(20, 3), step.init(params))
    assert not recorder.seen


def test_a_branch_has_fresh_noise_and_a_resumed_run_the_same():
    clip, noise = rule(), dp.GaussianNoise(1.0, key=KEY)
    step, params = private(clip, noise), {"w": torch.zeros(3)}
    _, state, _ = step.update(params, torch.ones(20, 3), step.init(params))
    after = [
        step.update(params, torch.ones(20, 3), step.resume(state, key=key))[1]["clip"]["norm"]
        for key in (KEY, KEY, dp.key(9))
    ]
    assert after[0] == after[1] != after[2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rule(start=0.0), "start from"),
        (lambda: rule(count_noise=0.0), "count_noise from"),
        (lambda: rule(quantile=1.0), "0 < quantile < 1"),
        (lambda: rule(rate=-1.0), "rate from"),
        (lambda: rule(size=0), "expected_batch_size from"),
        (
            lambda: private(rule(), dp.GaussianNoise(1.0, key=dp.key(5))),
            "with the key of the noise",
        ),
        (lambda: private(rule(), Recorder()), "with a noise_multiplier"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
