"""C8: noise and sampler make the event together; a pair without a theorem is refused at once."""

import pytest
import torch

import dpfunc as dp
from dpfunc import correlated, sampling
from tests.laws.matrix import Recorder

CYCLIC = sampling.CyclicPoisson(size=40, rate=0.5, cycle=4)
BANDED = correlated.banded(steps=12, bands=4)


def private(noise, sampler, size=None):
    return dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(1.0),
        noise=noise,
        expected_batch_size=sampler.expected_batch_size if size is None else size,
        sampler=sampler,
    )


def correlated_noise(strategy=BANDED):
    return dp.CorrelatedNoise(1.5, strategy, key=dp.key(1))


def test_a_loop_whose_event_nobody_types():
    step, params, data = (
        private(correlated_noise(), CYCLIC),
        {"w": torch.zeros(3)},
        torch.ones(40, 3),
    )
    state = step.init(params)
    for t in range(6):
        indices, mask = CYCLIC.batch(dp.key(1), t)
        _, state, _ = step.update(params, data[indices], state, mask)
    assert step.event(state) == CYCLIC.event(1.5, steps=6, strategy=BANDED)
    once = dp.accounting.OneRecord(dp.accounting.Poisson(0.5, dp.accounting.Gaussian(1.5)))
    assert step.event(state) == once * 2
    with pytest.raises(ValueError, match="a sample_rate, or a sampler"):
        step.event(state, sample_rate=0.1)


def test_independent_noise_with_a_sampler():
    bins = sampling.BallsInBins(size=40, bins=4)
    step = private(dp.GaussianNoise(1.5, key=dp.key(1)), bins)
    state = step.init({})
    assert step.event(state) == bins.event(1.5, steps=0)


@pytest.mark.parametrize(
    ("noise", "sampler", "words"),
    [
        (correlated_noise(), sampling.Poisson(size=40, rate=0.1), "no theorem is known"),
        (correlated_noise(), sampling.FixedSize(size=40, batch_size=4), "no theorem is known"),
        (correlated_noise(), sampling.CyclicPoisson(size=40, rate=0.5, cycle=3), "at most 3 bands"),
        (
            correlated_noise(correlated.lambda_cgd(steps=12, lambda_=0.5)),
            CYCLIC,
            "one that fills its columns",
        ),
    ],
)
def test_a_pair_without_a_theorem_is_refused_before_the_first_step(noise, sampler, words):
    with pytest.raises(ValueError, match=words):
        private(noise, sampler)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="that of the sampler"):
        private(correlated_noise(), CYCLIC, size=20.0)  # 40 * 0.5: a record is in every 4th step
    with pytest.raises(TypeError, match="with a noise_multiplier"):
        private(Recorder(), CYCLIC)
    with pytest.raises(TypeError, match="a sampler with the methods"):
        dp.PrivateGrad(
            lambda params, x: x.sum(),
            clip=dp.Clip(1.0),
            noise=correlated_noise(),
            expected_batch_size=5.0,
            sampler=7,
        )
    plain = dp.PrivateGrad(
        lambda params, x: x.sum(),
        clip=dp.Clip(1.0),
        noise=correlated_noise(),
        expected_batch_size=5.0,
    )
    with pytest.raises(ValueError, match="a sample_rate, or a sampler"):
        plain.event(plain.init({}))


@pytest.mark.parametrize(
    ("sampler", "refused"),
    [
        (sampling.BallsInBins(size=40, bins=2), True),
        (CYCLIC, True),
        (sampling.Allocation(size=40, steps=2), True),
        (sampling.Shuffled(size=40, batch_size=20), True),
        (sampling.Poisson(size=40, rate=0.5), False),
    ],
)
def test_a_branch_whose_records_come_again_too_soon_is_refused(sampler, refused):
    """Of two bins and one step under each of two keys a record may be in both steps."""
    key = dp.key(1)
    step = private(dp.GaussianNoise(1.5, key=key), sampler)
    state = step.init({})
    assert step.resume(state, key=key) == state
    if refused:
        with pytest.raises(ValueError, match="expected the key of the run, beside a sampler"):
            step.resume(state, key=dp.key(2))
    else:
        step.resume(state, key=dp.key(2))
