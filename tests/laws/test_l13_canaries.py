"""L13: audits see. Canaries of one's own tell a wrong noise, clipping, rate or sum at once.

The run is `PrivateGrad`, on every engine, with ordinary records beside the canaries; the faults are
those that epsilon bounds do not see.
"""

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc import accounting, audit
from tests.laws.matrix import ENGINE_NAMES

CANARIES, REAL, RATE, SIGMA, MAX_NORM, STEPS, EXPECTED = 400, 30, 0.2, 0.5, 0.7, 120, 46
EVENT = accounting.dp_sgd(noise_multiplier=SIGMA, sample_rate=RATE, steps=STEPS)
UNLIKELY, SEEN = 1e-5, 1e-3
RULES = {"Clip": dp.Clip, "AutoClip": lambda norm: dp.AutoClip(norm, stability=1e-4)}


def loss(params, x, y):
    return ((params["w"] * x).sum() - y).square()


def released(engine="factored", rule="Clip", *, sigma=SIGMA, norm=MAX_NORM, rate=RATE, seed=0,
             repeats=1, doubled=0):  # fmt: skip
    """Projections in the units that an honest run has, and who was in."""
    key = dp.key(seed)
    canaries = audit.gradient_canaries(loss, CANARIES, max_norm=MAX_NORM)
    member = audit.coins(key, CANARIES)
    real = dp.normal(dp.fold_in(key, "x"), (REAL, 4)), dp.normal(dp.fold_in(key, "y"), (REAL,))
    numbers = member.nonzero().squeeze(1)
    numbers = torch.cat([numbers, numbers[:doubled]])
    extra = canaries.records(real, numbers)
    data = [
        torch.cat([a, b]) for a, b in zip((*real, audit.real_numbers(real)), extra, strict=True)
    ]
    private = dp.PrivateGrad(
        canaries.loss_fn,
        clip=RULES[rule](norm),
        noise=dp.GaussianNoise(sigma * MAX_NORM / norm, key=key),
        expected_batch_size=EXPECTED,
        engine=engine,
    )
    params = canaries.params({"w": torch.zeros(4)})
    state, rows = private.init(params), []
    for step in range(STEPS):
        indices, mask = dp.sampling.poisson(key, step, size=len(data[0]), rate=rate)
        if step % repeats == 0:
            noise_state = state["noise"]
        grads, state, _ = private.update(
            params, tuple(part[indices] for part in data), {**state, "noise": noise_state}, mask
        )
        noise_state = state["noise"] if repeats == 1 else noise_state
        rows.append(-grads.pop("canary") * EXPECTED / MAX_NORM)
        params = {**params, "w": params["w"] - 0.1 * grads["w"]}
    return torch.stack(rows).double().numpy(), member.numpy()


def audited(**fault):
    return audit.audit_release(*released(**fault), EVENT, delta=1e-5)


@pytest.mark.parametrize(
    ("engine", "rule"),
    [
        ("factored", "Clip"),
        *(
            pytest.param(engine, rule, marks=pytest.mark.nightly)
            for engine in ENGINE_NAMES
            for rule in RULES
        ),
    ],
)
def test_a_true_run_passes_and_its_bounds_hold(engine, rule):
    found = audited(engine=engine, rule=rule)
    assert found.p_value > UNLIKELY
    assert found.claim is None  # so large that 400 scores could not refute it
    assert found.mu.value <= accounting.gdp_mu(EVENT)
    assert found.epsilon.value <= accounting.epsilon(EVENT, delta=1e-5)


FAULTS = {
    "noise-x-0.9": {"sigma": 0.9 * SIGMA},
    "clip-x-1.1": {"norm": 1.1 * MAX_NORM},
    "rate-x-1.2": {"rate": 1.2 * RATE},
    "noise-used-twice": {"repeats": 2},
    "canaries-doubled": {"doubled": CANARIES // 10},
}


GATE = ("noise-x-0.9", "canaries-doubled")


@pytest.mark.parametrize(
    "fault", [f if f in GATE else pytest.param(f, marks=pytest.mark.nightly) for f in FAULTS]
)
def test_a_fault_is_seen(fault):
    found = audited(**FAULTS[fault])
    assert found.p_value < SEEN, found.p_values
    assert found.epsilon.value < accounting.epsilon(EVENT, delta=1e-5)  # which no bound says


def test_coins_are_fair_and_each_ones_own():
    tosses = np.stack([audit.coins(dp.key(seed), 50).numpy() for seed in range(400)])
    assert abs(tosses.mean() - 0.5) < 4 * 0.5 / tosses.size**0.5
    assert tosses.sum(1).var() == pytest.approx(12.5, rel=0.25)  # 0 for halves that are dealt out
    correlation = np.corrcoef(tosses.T)[np.triu_indices(50, 1)]
    assert np.abs(correlation).max() < 5 / 400**0.5


def test_a_score_is_the_privacy_loss():
    """Of one step, the logarithm of the quotient of the densities of the accountant's pair."""
    o = np.linspace(-3, 4, 29)[None]
    p = (1 - RATE) * np.exp(-((o / SIGMA) ** 2) / 2) + RATE * np.exp(-(((o - 1) / SIGMA) ** 2) / 2)
    expected = np.log(p) + (o / SIGMA) ** 2 / 2
    found = audit.release_scores(o, noise_multiplier=SIGMA, sample_rate=RATE)
    assert found == pytest.approx(expected[0], abs=1e-12)


def test_the_mu_of_plain_noise_is_nearly_found():
    """Rate 1, one step, 2,000 + 2,000: the bound is within a tenth below, on average."""
    rng = np.random.default_rng(1)
    member = np.arange(4000) < 2000
    event, found = accounting.Gaussian(1.0), []
    for _ in range(4):
        o = rng.normal(size=(1, 4000)) + member
        found.append(audit.audit_release(o, member, event, delta=1e-5))
        assert found[-1].p_value > UNLIKELY
        assert found[-1].claim.value > UNLIKELY
        assert found[-1].mu.value <= 1
    assert np.mean([one.mu.value for one in found]) > 0.9
    half = audit.audit_release(o, member, accounting.Gaussian(2.0), delta=1e-5)
    assert half.p_value < SEEN
    assert half.claim.value < SEEN


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: audit.gradient_canaries(loss, 0), "an int count >= 1"),
        (lambda: audit.gradient_canaries(loss, 2).params({"canary": torch.ones(1)}), "rename"),
        (
            lambda: audit.release_scores([[1.0]], noise_multiplier=0.0, sample_rate=0.5),
            "a noise_multiplier > 0",
        ),
        (
            lambda: audit.release_scores([1.0], noise_multiplier=1.0, sample_rate=0.5),
            "one row a step",
        ),
        (
            lambda: audit.audit_release([[0.0, 1.0]], [False, True], EVENT, delta=1e-5),
            "an event of 1 equal steps",
        ),
        (
            lambda: audit.audit_release(
                [[0.0, 1.0]], [True, True], accounting.Gaussian(1.0), delta=1e-5
            ),
            "some in and some out",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
