"""L5: what the mechanism did is what the accountant is told: noise, rate, steps, scheme."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc import accounting
from dpfunc.commands.demo import training
from dpfunc.commands.demo.data import Images
from tests.laws.matrix import MAX_NORM, NOISES, WIDENED

SIGMA, RATE, SIZE, STEPS = 1.3, 0.2, 500, 12
UNLIKELY = 1e-5


@pytest.mark.parametrize("noise", NOISES)
def test_the_event_has_the_noise_the_rate_and_the_steps_of_the_run(noise):
    params = {"w": torch.zeros(40_000)}
    key = dp.key(21)
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * 0.0).sum() * x.sum(),
        clip=dp.Clip(MAX_NORM),
        noise=NOISES[noise](SIGMA, key=key),
        expected_batch_size=1.0,
    )
    state = private.init(params)
    drawn, released = 0, []
    for step in range(STEPS):
        indices, mask = dp.sampling.poisson(key, step, size=SIZE, rate=RATE)
        grads, state, _ = private.update(params, torch.ones(len(indices), 1), state, mask)
        drawn += len(indices)
        released.append(grads["w"].double().numpy() / (WIDENED * MAX_NORM))
    event = private.event(state, sample_rate=RATE)
    assert event == accounting.dp_sgd(noise_multiplier=SIGMA, sample_rate=RATE, steps=STEPS)
    # The numbers in the ledger are those that can be measured.
    sampled = event.event
    assert event.times == len(released)
    squares = (np.stack(released) ** 2).sum() / sampled.event.noise_multiplier**2
    assert UNLIKELY < stats.chi2.cdf(squares, STEPS * 40_000) < 1 - UNLIKELY
    assert UNLIKELY < stats.binom.cdf(drawn, STEPS * SIZE, sampled.sample_rate) < 1 - UNLIKELY


def test_a_resumed_run_goes_on_counting():
    params = {"w": torch.zeros(3)}
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(SIGMA, key=dp.key(1)),
        expected_batch_size=4.0,
    )
    state = private.init(params)
    assert accounting.epsilon(private.event(state, sample_rate=RATE), delta=1e-5) == 0
    for count in range(1, 4):
        _, state, _ = private.update(params, torch.ones(2, 3), state)
        assert private.event(state, sample_rate=RATE).times == count


def test_a_state_counts_for_the_noise_that_it_was_made_with_alone():
    """A run that goes on with another noise multiplier would be told to have had it all along."""

    def private(sigma, seed):
        return dp.PrivateGrad(
            lambda params, x: (params["w"] * x).sum(),
            clip=dp.Clip(1.0),
            noise=dp.GaussianNoise(sigma, key=dp.key(seed)),
            expected_batch_size=4.0,
        )

    params, batch = {"w": torch.zeros(3)}, torch.ones(2, 3)
    _, state, _ = private(SIGMA, 1).update(params, batch, private(SIGMA, 1).init(params))
    for other in (private(2 * SIGMA, 1), private(SIGMA, 2)):
        with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
            other.event(state, sample_rate=RATE)
        with pytest.raises(ValueError, match="expected a state of this key and noise_multiplier"):
            other.update(params, batch, state)


def test_the_demo_tells_the_accountant_what_it_does(monkeypatch):
    images = dp.normal(dp.key(1), (40, 1, 28, 28))
    labels = torch.arange(40) % 10
    data = Images(images, labels, images, labels)
    plan = training.Plan(
        target_epsilon=4.0, delta=1e-4, sample_rate=0.3, steps=50, noise_multiplier=2.0
    )
    draws = []
    poisson = dp.sampling.poisson

    def spy(key, step, **options):
        draws.append((step, options["size"], options["rate"]))
        return poisson(key, step, **options)

    monkeypatch.setattr(dp.sampling, "poisson", spy)
    model = training.tanh_cnn(dp.key(2))
    run = list(training.train_private(model, data, plan, dp.key(2)))
    assert draws == [(step, 40, plan.sample_rate) for step in range(len(run))]
    for progress in run:
        told = accounting.dp_sgd(noise_multiplier=2.0, sample_rate=0.3, steps=progress.step)
        # The live budget is certified too; two certified answers differ by their widths.
        bounds = accounting.epsilon_bounds(told, delta=plan.delta)
        assert bounds.lower <= progress.epsilon <= bounds.upper * (1 + 2e-5)
    spent = [progress.epsilon for progress in run]
    assert all(a < b for a, b in itertools.pairwise(spent))
    # It stopped with the budget: one more step would have gone over it.
    assert 0 < len(run) < 50
    assert spent[-1] <= 4.0
    more = accounting.dp_sgd(noise_multiplier=2.0, sample_rate=0.3, steps=len(run) + 1)
    assert accounting.epsilon(more, delta=plan.delta) > 4.0
