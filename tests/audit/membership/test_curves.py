"""`roc`: counts by brute force, bands that hold, rates that the data cannot resolve."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from dpfunc import accounting, audit


def seen(rng, n_in=150, n_out=200, mu=1.0):
    member = np.arange(n_in + n_out) < n_in
    return rng.normal(size=n_in + n_out) + mu * member, member


def test_the_curve_counts_right_and_wrong_guesses():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 12, 60).astype(float), rng.random(60) < 0.5
    curve = audit.roc(scores, member)
    inside, outside = scores[member], scores[~member]
    points = {(0.0, 0.0), (1.0, 1.0)} | {
        ((outside > t).mean(), (inside > t).mean()) for t in set(outside)
    }
    assert set(zip(curve.fpr, curve.tpr, strict=True)) == points
    wins = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert curve.auc.value == pytest.approx(wins)
    best = max((inside > t).mean() - (outside > t).mean() for t in scores)
    assert curve.balanced_accuracy == pytest.approx((1 + best) / 2)


def test_equal_scores_tell_nothing():
    curve = audit.roc(np.ones(100), np.arange(100) < 50)
    assert curve.auc.value == 0.5
    assert curve.tpr_at(0.2).value == 0.0


def test_a_rate_that_the_data_cannot_resolve_is_refused():
    rng = np.random.default_rng(0)
    curve = audit.roc(*seen(rng))
    at = curve.tpr_at(0.05)
    outside = np.sort(curve.pairs[0][1])[::-1]
    assert at.value == (curve.pairs[0][0] > outside[10]).mean()  # ten wrong guesses of 200
    assert at.low < at.value < at.high
    with pytest.raises(ValueError, match=r"between 0.05 and 1, of 200 .* score 1,000 non-members"):
        curve.tpr_at(0.01)
    assert "TPR - at FPR 1.0%" in str(curve)


def test_a_band_holds_at_its_confidence():
    """Both true rates at the threshold are in it at once in 95 % of all audits."""
    rng = np.random.default_rng(2)
    cases, inside = 1000, 0
    for _ in range(cases):
        scores, member = seen(rng, 60, 80)
        low, high, tpr_low, tpr_high = audit.roc(scores, member).band[4]  # rank 8
        threshold = np.sort(scores[~member])[-8]
        holds = low <= norm.sf(threshold) <= high and tpr_low <= norm.sf(threshold - 1) <= tpr_high
        inside += bool(holds)
    sure = 0.95
    assert inside >= cases * sure - 3 * math.sqrt(cases * sure * (1 - sure))
    assert inside < cases  # and says something


@pytest.mark.parametrize(("n_in", "n_out"), [(150, 1000), (4000, 300)])
def test_a_band_at_a_rate_holds_however_few_tell_where_that_rate_is(n_in, n_out):
    """Scores that tell nothing: at a false positive rate of 5 % the true one is 5 %."""
    rng = np.random.default_rng(8)
    bands = [audit.roc(*seen(rng, n_in, n_out, 0.0)).tpr_at(0.05) for _ in range(100)]
    assert sum(band.low <= 0.05 <= band.high for band in bands) >= 95 - 3 * math.sqrt(4.75)
    assert all(band.low <= band.value <= band.high < 0.3 for band in bands)


@pytest.mark.parametrize("targets", [2, 4])
def test_a_few_targets_that_tell_nothing_are_seldom_above(targets):
    rng = np.random.default_rng(9)
    event, cases = accounting.Gaussian(50.0), 40
    found = [
        audit.roc(rng.normal(size=(targets, 200)), rng.random((targets, 200)) < 0.5)
        for _ in range(cases)
    ]
    assert sum(curve.above(event) for curve in found) <= cases * 0.05 + 3 * math.sqrt(cases * 0.05)
    scores, member = zip(*(seen(rng, 200, 200, 1.5) for _ in range(targets)), strict=True)
    assert audit.roc(np.stack(scores), np.stack(member)).above(event)


def test_the_band_of_the_area_holds():
    rng = np.random.default_rng(3)
    truth = norm.cdf(1 / math.sqrt(2))
    found = [audit.roc(*seen(rng)).auc for _ in range(400)]
    inside = sum(area.low <= truth <= area.high for area in found)
    assert 0.95 * 400 - 3 * math.sqrt(400 * 0.0475) <= inside < 400


def test_more_attacks_make_wider_bands():
    scores, member = seen(np.random.default_rng(4))
    one, best = audit.roc(scores, member), audit.roc(scores, member, tests=5)
    assert (best.band[:, 2] <= one.band[:, 2]).all()
    assert (best.band[:, 1] > one.band[:, 1]).all()
    assert best.auc.low < one.auc.low


def test_targets_are_pooled_and_drawn_again():
    rng = np.random.default_rng(5)
    scores, member = zip(*(seen(rng) for _ in range(12)), strict=True)
    curve = audit.roc(np.stack(scores), np.stack(member))
    flat = audit.roc(np.concatenate(scores), np.concatenate(member))
    assert np.array_equal(curve.tpr, flat.tpr)
    assert (curve.n_in, curve.n_out) == (12 * 150, 12 * 200)
    assert "no guarantee" in str(curve)
    assert "exact" in str(flat)
    assert curve.auc.low < norm.cdf(1 / math.sqrt(2)) < curve.auc.high
    # Targets that are all the same tell no more than one.
    same = audit.roc(np.stack(scores[:1] * 4), np.stack(member[:1] * 4))
    assert same.auc.high - same.auc.low < 1e-9


def test_slices_have_curves_of_their_own():
    rng = np.random.default_rng(6)
    scores, member = seen(rng, mu=0.0)
    odd = np.arange(350) % 7 == 0
    scores[odd & member] += 5  # a few are fully exposed
    curve = audit.roc(scores, member, by=odd)
    assert curve.auc.value < 0.62
    assert curve.slices[True].auc.value > 0.99
    assert curve.slices[True].n_in == (odd & member).sum()
    alone = audit.roc(scores[~odd], member[~odd])
    assert np.array_equal(curve.slices[False].tpr, alone.tpr)
    with pytest.raises(ValueError, match=r"10 non-members .slice 3"):
        audit.roc(scores, member, by=np.where(np.arange(350) < 5, 3, 4))


def test_bands_of_slices_hold_for_all_of_them_at_once():
    """The worst of ten slices may be picked: no band of ten misses in 95 % of all audits."""
    rng = np.random.default_rng(10)
    cases, sure, inside = 80, 0.95, 0
    label = np.arange(700) % 10
    for _ in range(cases):
        scores, member = seen(rng, 300, 400)
        curve = audit.roc(scores, member, by=label)
        holds = True
        for one, part in curve.slices.items():
            low, high, tpr_low, tpr_high = part.band[4]  # rank 8
            threshold = np.sort(scores[~member & (label == one)])[-8]
            holds &= low <= norm.sf(threshold) <= high
            holds &= tpr_low <= norm.sf(threshold - 1) <= tpr_high
        inside += bool(holds)
    assert inside >= cases * sure - 3 * math.sqrt(cases * sure * (1 - sure))
    assert curve.slices[3].tests == 10
    assert "each threshold by itself, 10 curves at once" in str(curve.slices[3])
    assert curve.tests == 1  # of all records there is one


@pytest.mark.parametrize("cases", [12, pytest.param(300, marks=pytest.mark.nightly)])
def test_what_an_event_allows_is_seldom_exceeded_and_more_is_seen(cases):
    """Law: Gaussian noise of mu 1 against its own event, which sits exactly on it."""
    rng = np.random.default_rng(7)
    true, false = accounting.Gaussian(1.0), accounting.Gaussian(1.6)
    curves = [audit.roc(*seen(rng, 400, 400)) for _ in range(cases)]
    most = cases * 0.05 + 3 * math.sqrt(cases * 0.0475)
    assert sum(curve.above(true) for curve in curves) <= most
    assert sum(curve.above(false) for curve in curves) > cases / 3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s, m: audit.roc(s[:155], m[:155]), "10 non-members .all"),
        (lambda s, m: audit.roc(s, m.astype(float)), "booleans"),
        (lambda s, m: audit.roc(s * math.nan, m), "can be compared"),
        (lambda s, m: audit.roc(s, m, by=[1, 2]), "a slice for each of 350"),
        (lambda s, m: audit.roc(s, m, tests=0), "tests >= 1"),
        (lambda s, m: audit.roc(s, m).tpr_at(0.0), "between 0.05 and 1"),
        (lambda s, m: audit.roc(s, m).tpr_at("1 %"), "between 0.05 and 1"),
    ],
)
def test_what_makes_no_curve_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(*seen(np.random.default_rng(0)))
