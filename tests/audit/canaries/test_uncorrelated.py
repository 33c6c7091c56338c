"""Canaries in a run with correlated noise: each shows the pair of its own steps, and a fault."""

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc import accounting, audit, correlated
from dpfunc.strategies.records import matrix

BANDS, CYCLE, STEPS, SIGMA, RATE = 3, 4, 42, 0.8, 0.3
STRATEGY = correlated.banded(steps=STEPS, bands=BANDS)
ROUNDS = 10  # whole columns of every group in 42 steps
EVENT = accounting.Poisson(RATE, accounting.Gaussian(SIGMA)) * ROUNDS


def loss(params, x):
    return ((params["w"] * x).sum() - 1).square()


def released(sigma, count=300, real=40):
    """A run of `PrivateGrad`: its projections, the groups of its canaries, and who was in."""
    key = dp.key(5)
    canaries = audit.gradient_canaries(loss, count)
    member = audit.coins(key, count)
    rows = (dp.normal(dp.fold_in(key, "x"), (real, 3)),)
    numbers = member.nonzero().squeeze(1)
    extra = canaries.records(rows, numbers)
    data = [
        torch.cat(parts) for parts in zip((*rows, audit.real_numbers(rows)), extra, strict=True)
    ]
    sampler = dp.sampling.CyclicPoisson(size=len(data[0]), rate=RATE, cycle=CYCLE)
    group = torch.zeros(count, dtype=torch.int64)
    group[numbers] = sampler.group_of(key)[real:]  # who is out has any group
    private = dp.PrivateGrad(
        canaries.loss_fn,
        clip=dp.Clip(1.0),
        noise=dp.CorrelatedNoise(sigma, STRATEGY, key=key),
        expected_batch_size=9,
    )
    params = canaries.params({"w": torch.zeros(3)})
    state, projections = private.init(params), []
    for step in range(STEPS):
        indices, mask = sampler.batch(key, step)
        grads, state, _ = private.update(params, tuple(part[indices] for part in data), state, mask)
        projections.append(-grads.pop("canary") * 9)
        params = {**params, "w": params["w"] - 0.1 * grads["w"]}
    values = torch.stack(projections).double().numpy()
    return audit.uncorrelated(values, STRATEGY, group=group, cycle=CYCLE), member.numpy()


def test_a_run_of_correlated_noise_is_audited_by_its_own_event():
    values, member = released(SIGMA)
    assert values.shape == (ROUNDS, 300)
    found = audit.audit_release(values, member, EVENT, delta=1e-5)
    assert found.p_value > 1e-5
    assert found.epsilon.value <= accounting.epsilon(EVENT, delta=1e-5)


def test_too_little_correlated_noise_is_seen():
    values, member = released(0.7 * SIGMA)
    assert audit.audit_release(values, member, EVENT, delta=1e-5).p_value < 1e-5


def test_without_noise_it_is_who_took_part():
    rng = np.random.default_rng(0)
    group = np.arange(40) % CYCLE
    taken = (rng.random((STEPS, 40)) < 0.5) & (np.arange(STEPS)[:, None] % CYCLE == group)
    found = audit.uncorrelated(taken, STRATEGY, group=group, cycle=CYCLE)
    expected = taken[group + CYCLE * np.arange(ROUNDS)[:, None], np.arange(40)]
    assert found == pytest.approx(expected.astype(float), abs=1e-12)


def test_its_noise_is_independent_and_as_large_as_promised():
    """The covariance of what becomes of Z: that of all rounds, worked out by the matrix itself."""
    size = correlated.column_norm(STRATEGY)
    noise = size * np.linalg.inv(matrix(STRATEGY))  # a column for each coordinate of Z
    for group in range(CYCLE):
        of = np.full(STEPS, group)
        factors = audit.uncorrelated(noise, STRATEGY, group=of, cycle=CYCLE)
        assert factors @ factors.T == pytest.approx(np.eye(ROUNDS), abs=1e-9)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"cycle": 2}, "3 bands, cycle 2"),
        ({"strategy": correlated.fractional(steps=STEPS, bands=4, exponent=0.5)}, "no banded one"),
        ({"group": [0, 4]}, "a group from 0 to 3"),
        ({"group": [0.0, 1.0]}, "a group from 0 to 3"),
        ({"projections": np.zeros((43, 2))}, "at most 42 steps"),
        ({"projections": np.full((42, 2), np.nan)}, "finite"),
        ({"projections": np.zeros((5, 2))}, "at least 6 steps"),
    ],
)
def test_what_it_cannot_undo_is_refused(options, match):
    given = {"projections": np.zeros((STEPS, 2)), "strategy": STRATEGY, "group": [0, 1]} | options
    with pytest.raises(ValueError, match=match):
        audit.uncorrelated(
            given["projections"],
            given["strategy"],
            group=given["group"],
            cycle=given.get("cycle", CYCLE),
        )
