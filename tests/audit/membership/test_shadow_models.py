"""Shadow models: each sees its own records at the rate promised, and they are what a loop gives."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, chi2

import dpfunc as dp
from dpfunc import accounting, audit

SIZE, RATE, STEPS = 60, 0.2, 40
KEY = dp.key(3)


def numbers():
    return (torch.arange(SIZE),)


def counted(params, batch, mask):
    """How often each record was in a batch."""
    return params + (mask[:, None] * (batch[0][:, None] == torch.arange(SIZE))).sum(0)


def tally(**options):
    settings = {"key": KEY, "steps": STEPS, "sample_rate": RATE, "count": 8} | options
    return audit.shadow_models(
        lambda key: torch.zeros(SIZE, dtype=torch.int64), counted, numbers(), **settings
    )


def test_every_record_is_in_exactly_half_of_the_models():
    shadows = tally(count=32)
    assert shadows.member.sum(0).unique().tolist() == [16]
    sizes = shadows.member.sum(1)  # of one model: coins
    assert len(set(sizes.tolist())) > 3
    spread = float((4 * (sizes - SIZE / 2).float().square() / SIZE).sum())
    assert chi2.cdf(spread, 32) > 1e-4
    assert chi2.sf(spread, 32) > 1e-4


def test_a_model_sees_its_own_records_alone_at_the_rate():
    shadows = tally()
    assert int(shadows.params[~shadows.member].sum()) == 0
    seen, trials = int(shadows.params.sum()), int(shadows.member.sum()) * STEPS
    assert 1e-4 < binom.cdf(seen, trials, RATE) < 1 - 1e-4
    assert len({tuple(row.tolist()) for row in shadows.params}) == 8


def test_the_chunk_changes_nothing():
    assert torch.equal(tally(chunk=3).params, tally(chunk=16).params)


def test_given_memberships_are_kept():
    member = dp.bernoulli(dp.key(1), (8, SIZE), probability=0.5)
    shadows = tally(member=member)
    assert torch.equal(shadows.member, member)
    assert int(shadows.params[~member].sum()) == 0


def test_each_model_draws_numbers_of_its_own():
    shadows = audit.shadow_models(
        lambda key: torch.zeros(3),
        lambda params, batch, mask: params + torch.randn_like(params),
        numbers(),
        key=KEY,
        steps=1,
        sample_rate=RATE,
        count=8,
    )
    assert len(shadows.params.flatten().unique()) == 24


def regression():
    x = dp.normal(dp.key(5), (SIZE, 4))
    return x, x @ torch.tensor([1.0, -1.0, 0.5, 0.0])


def descent(params, batch, mask):
    def loss(params):
        return (((batch[0] @ params["w"] - batch[1]) ** 2) * mask).sum() / 10

    gradient = torch.func.grad(loss)(params["now"])["w"]
    speed = 0.5 * params["speed"] + gradient
    return {"now": {"w": params["now"]["w"] - 0.05 * speed}, "speed": speed}


def test_they_are_what_a_loop_over_one_model_gives():
    shadows = audit.shadow_models(
        lambda key: {"now": {"w": dp.normal(key, (4,))}, "speed": torch.zeros(4)},
        descent,
        regression(),
        key=KEY,
        steps=30,
        sample_rate=RATE,
        count=6,
    )
    x, y = regression()
    for number in (0, 5):
        w = dp.normal(dp.fold_in(KEY, "model", number), (4,))
        params = {"now": {"w": w}, "speed": torch.zeros(4)}
        for step in range(30):
            key = dp.fold_in(KEY, "sample", step)
            drawn = dp.bernoulli(key, (6, SIZE), probability=RATE)[number]
            drawn = drawn & shadows.member[number]
            params = descent(params, (x[drawn], y[drawn]), torch.ones(int(drawn.sum())))
        assert torch.allclose(shadows.params["now"]["w"][number], params["now"]["w"], atol=1e-5)


def attacked(noise):
    """LiRA on a mean that is released with noise, from the middle of a crowd: 40 targets."""
    size, models = 200, 64

    def step(mean, batch, mask):
        total = (mask[:, None] * torch.nn.functional.normalize(batch[0], dim=1)).sum(0)
        return total + noise * torch.randn_like(total)

    torch.manual_seed(0)
    x = dp.normal(dp.key(2), (size, 40))
    shadows = audit.shadow_models(
        lambda key: torch.zeros(40), step, (x,), key=KEY, steps=1, sample_rate=1.0, count=models
    )
    signals = (torch.nn.functional.normalize(x, dim=1) @ shadows.params.T).T
    scores = [audit.attacks.lira(signals, shadows.member, target) for target in range(40)]
    return audit.roc(np.stack(scores), shadows.member[:40].numpy())


def test_attacks_on_a_private_model_stay_below_its_certified_curve():
    """Law: and without its noise the same attack is far above it."""
    event = accounting.Gaussian(2.0)
    private, exposed = attacked(2.0), attacked(0.0)
    assert not private.above(event)
    assert private.auc.value < exposed.auc.value
    assert attacked(0.0).above(accounting.Gaussian(20.0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"count": 7}, "an even count of at least 4"),
        ({"count": 2}, "an even count of at least 4"),
        ({"steps": 0}, "at least one step"),
        ({"sample_rate": 0}, "a sample_rate"),
        ({"sample_rate": math.nan}, "a sample_rate"),
        ({"member": torch.ones(8, SIZE)}, "member of bool"),
        ({"member": torch.ones(7, SIZE, dtype=torch.bool)}, "member of bool"),
        ({"member": (torch.arange(SIZE) % 2 == 0).expand(8, SIZE)}, "exactly half of 60 in"),
    ],
)
def test_what_makes_no_shadows_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        tally(**options)


def test_records_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="tensors of one length"):
        audit.shadow_models(
            lambda key: torch.zeros(1),
            counted,
            (torch.zeros(3), torch.zeros(4)),
            key=KEY,
            steps=1,
            sample_rate=0.5,
        )
