"""Attacks: each is its formula, none knows who was in, and the target is not among its shadows."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from dpfunc import audit

ATTACKS = {
    "loss": audit.attacks.loss,
    "calibrated": audit.attacks.calibrated,
    "lira offline": lambda *a: audit.attacks.lira(*a, online=False),
    "lira online": audit.attacks.lira,
    "rmia": audit.attacks.rmia,
}


def cases(models=12, records=40, gain=1.0, seed=0):
    """Signals that are larger by ``gain`` where the record was in, on means of its own."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(models)[:, None] < models // 2, records), axis=0)
    hard = rng.normal(size=records) * 3
    return hard + gain * order + rng.normal(size=(models, records)), order


def halves(signals, member, record, target):
    """The others with the record and without it: as many, without the first of the larger side."""
    others = np.arange(len(signals)) != target
    inside = signals[others & member[:, record], record]
    outside = signals[others & ~member[:, record], record]
    assert abs(len(inside) - len(outside)) == 1
    least = min(len(inside), len(outside))
    return inside[-least:], outside[-least:]


def test_lira_is_the_ratio_of_two_normal_laws():
    signals, member = cases()
    online = audit.attacks.lira(signals, member, 3, one_variance=False)
    offline = audit.attacks.lira(signals, member, 3, online=False, one_variance=False)
    for record in range(40):
        inside, outside = halves(signals, member, record, 3)
        s = signals[3, record]
        laws = norm(inside.mean(), inside.std(ddof=1)), norm(outside.mean(), outside.std(ddof=1))
        assert online[record] == pytest.approx(laws[0].logpdf(s) - laws[1].logpdf(s))
        assert offline[record] == pytest.approx((s - outside.mean()) / outside.std(ddof=1))


def test_one_variance_is_about_each_records_own_means():
    signals, member = cases()
    pieces = [halves(signals, member, record, 0) for record in range(40)]
    pooled = [
        sum(((p[side] - p[side].mean()) ** 2).sum() for p in pieces)
        / sum(len(p[side]) - 1 for p in pieces)
        for side in (0, 1)
    ]
    expected = [
        norm.logpdf(signals[0, i], p[0].mean(), pooled[0] ** 0.5)
        - norm.logpdf(signals[0, i], p[1].mean(), pooled[1] ** 0.5)
        for i, p in enumerate(pieces)
    ]
    assert audit.attacks.lira(signals, member, 0) == pytest.approx(np.array(expected))
    many, who = cases(models=66)
    own = audit.attacks.lira(many, who, 0, one_variance=False)
    assert audit.attacks.lira(many, who, 0) == pytest.approx(own)


def test_the_calibrated_score_is_above_the_mean_without_the_record():
    signals, member = cases()
    scores = audit.attacks.calibrated(signals, member, 5)
    for record in range(40):
        outside = halves(signals, member, record, 5)[1]
        assert scores[record] == pytest.approx(signals[5, record] - outside.mean())


@pytest.mark.parametrize("gamma", [1.0, 1.7])
def test_rmia_is_a_share_of_the_population(gamma):
    signals, member = cases()
    population = np.arange(40) % 3 == 0
    p = 1 / (1 + np.exp(-signals))
    ratio = np.array(
        [p[2, i] / np.mean([part.mean() for part in halves(p, member, i, 2)]) for i in range(40)]
    )
    expected = [(ratio[i] / ratio[population] >= gamma).mean() for i in range(40)]
    found = audit.attacks.rmia(signals, member, 2, gamma=gamma, population=population)
    assert found == pytest.approx(np.array(expected))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_does_not_know_who_was_in_and_finds_it(attack):
    signals, member = cases(models=40, records=300, gain=2.0)
    scores = attack(signals, member, 7)
    other = member.copy()
    other[7] = ~other[7]
    assert np.array_equal(attack(signals, other, 7), scores)
    rest = np.arange(40) != 7
    assert np.array_equal(attack(signals[rest], member[rest], signals[7]), scores)
    assert audit.roc(scores, member[7]).auc.low > 0.5


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_target_among_its_own_shadows_is_refused(attack):
    signals, member = cases()
    with pytest.raises(ValueError, match=r"not among its shadows .* number \[4\]"):
        attack(signals, member, signals[4])
    twice = np.concatenate([signals, signals[4:5]])
    with pytest.raises(ValueError, match="each model once"):
        attack(twice, np.concatenate([member, member[4:5]]), 4)


def test_who_was_in_at_random_tells_nothing():
    """Law: with memberships that have nothing to do with the data no attack finds anything."""
    signals, member = cases(models=20, records=1000, gain=3.0)
    rng = np.random.default_rng(1)
    wrong = rng.random(member.shape) < 0.5
    for attack in ATTACKS.values():
        scores = attack(signals, wrong, 0)
        curve = audit.roc(scores, wrong[0])
        error = math.sqrt((1000 + 1) / (12 * curve.n_in * curve.n_out))
        assert abs(curve.auc.value - 0.5) < 3 * error
        seen = audit.Scores.of(scores, wrong[0])
        for setting in ("independent", "one_run"):
            bound = audit.epsilon_lower_bound(seen, delta=1e-5, confidence=0.95, setting=setting)
            assert bound.value == 0.0


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_shares_that_are_dealt_out_do_not_tell_who_was_in(attack):
    """Law: signals of no record at all. A mean over one shadow fewer would know the target's coin:
    members looked less like members, and the lowest scores were those of others."""
    signals, member = cases(models=6, records=30_000, gain=0.0)
    scores = attack(signals, member, 0)
    curve = audit.roc(scores, member[0])
    error = math.sqrt((30_000 + 1) / (12 * curve.n_in * curve.n_out))
    assert abs(curve.auc.value - 0.5) < 4 * error
    spread = [scores[side].std() for side in (member[0], ~member[0])]
    assert spread[0] == pytest.approx(spread[1], rel=0.03)


def test_large_margins_stay_apart():
    logits = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0], [0.0, 60.0, 0.0], [900.0, 0, -900]])
    signals = audit.loss_scores(logits, torch.tensor([0, 0, 0, 2]))
    assert signals.tolist() == pytest.approx([40 - math.log(2), 60 - math.log(2), -60, -1800])
    rows = np.stack([signals.numpy() + shift for shift in (0.0, 0.5, 1.0, 1.5, 2.0)])
    member = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0]]) > 0
    for attack in ATTACKS.values():
        scores = attack(rows, member, 0)
        assert np.isfinite(scores).all()
    assert audit.attacks.loss(rows, member, 0)[0] < audit.attacks.loss(rows, member, 0)[1] < 0


def test_the_signal_of_many_models_is_that_of_each():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=rng)
    labels = torch.tensor([0, 1, 2, 3, 0])
    p = logits.double().softmax(-1)[:, torch.arange(5), labels]
    together = audit.loss_scores(logits, labels)
    assert torch.allclose(together, p.logit())
    assert torch.equal(together[1], audit.loss_scores(logits[1], labels))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s, m: audit.attacks.lira(s[:3], m[:3], 0), "at least 2 shadows"),
        (lambda s, m: audit.attacks.calibrated(s, np.ones_like(m), 0), "at least 1 shadows"),
        (lambda s, m: audit.attacks.lira(s, m, 99), "the number of a row below 12"),
        (lambda s, m: audit.attacks.lira(s, m, -1), "the number of a row below 12"),
        (lambda s, m: audit.attacks.loss(s, m.astype(int), 0), "as many booleans"),
        (lambda s, m: audit.attacks.loss(s + np.inf, m, 0), "finite signals"),
        (lambda s, m: audit.attacks.rmia(s, m, 0, gamma=0), "gamma > 0"),
        (lambda s, m: audit.attacks.rmia(s, m, 0, population=[False] * 40), "not empty"),
    ],
)
def test_what_an_attack_cannot_use_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(*cases())


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2])),
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.full((3, 2), math.nan), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_logits_that_tell_nothing_are_refused(logits, labels):
    with pytest.raises(ValueError, match="loss_scores: expected"):
        audit.loss_scores(logits, labels)
