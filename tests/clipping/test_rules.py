"""Contract tests over every clip rule, and what is special to one."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dpfunc as dp
from tests.laws.matrix import CLIPS

NORM = st.floats(0, 2.0**60, width=32)


def used(weights, norms):
    """The norm that each sample has after weighting, all parameters together."""
    parts = [(weights.values[n].double() * norms[n].double()).square() for n in norms]
    return torch.stack(parts).sum(0).sqrt()


@pytest.mark.parametrize("rule", CLIPS)
@given(samples=st.lists(st.tuples(NORM, NORM, NORM), min_size=1, max_size=5))
def test_no_sample_gets_more_than_the_bound(rule, samples):
    table = torch.tensor(samples, dtype=torch.float32)
    norms = dict(zip("wbs", table.unbind(1), strict=True))
    weights = CLIPS[rule].weights(norms, CLIPS[rule].init())
    assert (used(weights, norms) <= weights.bound * (1 + 1e-6)).all()
    assert all((w >= 0).all() and w.isfinite().all() for w in weights.values.values())


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_gets_weight_zero_everywhere(rule, bad):
    norms = {n: torch.tensor([1.0, 1.0, bad if n == "b" else 1.0]) for n in "wbs"}
    weights = CLIPS[rule].weights(norms, CLIPS[rule].init())
    for values in weights.values.values():
        assert values[2] == 0
        assert (values[:2] > 0).all()


@pytest.mark.parametrize("rule", CLIPS)
def test_a_weight_depends_on_its_own_sample_alone(rule):
    norms = {n: torch.tensor([0.1, 2.0, 30.0]) for n in "wbs"}
    together = CLIPS[rule].weights(norms, {}).values
    for i in range(3):
        alone = CLIPS[rule].weights({n: v[i : i + 1] for n, v in norms.items()}, {}).values
        assert all(torch.equal(alone[n], together[n][i : i + 1]) for n in norms)


@pytest.mark.parametrize("rule", CLIPS)
def test_an_empty_batch_has_no_weights(rule):
    weights = CLIPS[rule].weights({n: torch.zeros(0) for n in "wbs"}, {})
    assert all(values.shape == (0,) for values in weights.values.values())


@pytest.mark.parametrize("rule", CLIPS)
def test_state_goes_through_init_and_update(rule):
    clip = CLIPS[rule]
    norms = {n: torch.ones(2) for n in "wbs"}
    assert clip.update(norms, torch.ones(2, dtype=torch.bool), clip.init()) == clip.init() == {}


def test_clip_leaves_short_gradients_alone():
    weights = dp.Clip(1.0).weights({"w": torch.tensor([0.0, 0.5, 1.0])}, {})
    assert weights.values["w"].tolist() == [1, 1, 1]


def test_infinity_clips_nothing():
    weights = dp.Clip(math.inf).weights({"w": torch.tensor([0.0, 1e30, math.inf])}, {})
    assert weights.values["w"].tolist() == [1, 1, 0]
    assert weights.bound == math.inf


def test_one_number_for_all_layers_is_the_bound_of_the_whole():
    norms = {n: torch.tensor([10.0]) for n in "abcd"}
    weights = dp.ClipPerLayer(2.0).weights(norms, {})
    assert weights.bound == pytest.approx(2.0)
    assert all(w.item() == pytest.approx(0.1) for w in weights.values.values())


def test_a_mapping_must_name_every_parameter():
    with pytest.raises(ValueError, match=r"expected one max_norm for each of \['b', 'w'\]"):
        dp.ClipPerLayer({"w": 1.0}).weights({n: torch.ones(1) for n in "wb"}, {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dp.Clip(-1.0), "Clip: expected max_norm > 0 but got -1.0; use math.inf"),
        (lambda: dp.Clip(0), "expected max_norm > 0 but got 0"),
        (lambda: dp.Clip(math.nan), "expected max_norm > 0 but got nan"),
        (lambda: dp.Clip("1"), "expected max_norm > 0 but got '1'"),
        (lambda: dp.Clip(True), "expected max_norm > 0 but got True"),
        (lambda: dp.Clip(1e-20), "expected max_norm >= 1e-12 but got 1e-20"),
        (lambda: dp.AutoClip(math.inf), "expected a finite max_norm but got inf"),
        (lambda: dp.AutoClip(1.0, stability=0.0), "expected stability > 0 but got 0.0"),
        (lambda: dp.AutoClip(1.0, 1e-30), "expected stability >= 1e-12 but got 1e-30"),
        (lambda: dp.ClipPerLayer({"w": 0.0}), "ClipPerLayer, 'w': expected max_norm > 0"),
        (lambda: dp.ClipPerLayer(-2.0), "ClipPerLayer: expected max_norm > 0 but got -2.0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
