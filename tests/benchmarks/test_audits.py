"""The audits benchmark in a tiny form: each fault is what it is called, and one is seen."""

import numpy as np
import pytest
import torch

from benchmarks import audits
from dpfunc import accounting

SIZE = audits.Size(canaries=80, real=60, steps=16)
EVENT = accounting.dp_sgd(noise_multiplier=2.0, sample_rate=audits.RATE, steps=SIZE.steps)


def projections(step, kind, **fault):
    run = audits.prepared(kind, SIZE, 3)._replace(sigma=2.0, **fault)
    way = (
        audits.by_private_grad(run)
        if step == "PrivateGrad"
        else audits.by_privacy_engine(run, kind)
    )
    return way.double().numpy(), run


@pytest.mark.parametrize(
    "step", [pytest.param("PrivateGrad", marks=pytest.mark.nightly), "PrivacyEngine"]
)
def test_own_canaries_show_noise_rate_and_clipping(step):
    """What is released without a record has the noise's spread; a mean with it, rate times clip."""
    for name, sigma in {"none": 2.0, "noise x .5": 1.0, "clip x 1.5": 2.0}.items():
        values, run = projections(step, "own", **audits.FAULTS[name])
        assert values[:, ~run.member.numpy()].std() == pytest.approx(sigma, rel=0.1)
    sure = {"noise": 0.01}
    size = {}
    for name, fault in audits.FAULTS.items():
        values, run = projections(step, "own", **(fault | sure))
        inside = values[:, run.member.numpy()]
        size[name] = np.median(inside[inside > 0.5]), (inside > 0.5).mean()
    assert size["clip x 1.5"][0] == pytest.approx(1.5, abs=0.05)
    assert size["none"][0] == pytest.approx(1.0, abs=0.05)
    assert size["none"][1] == pytest.approx(audits.RATE, rel=0.3)
    assert size["rate x 2"][1] == pytest.approx(2 * audits.RATE, rel=0.3)


@pytest.mark.parametrize("step", audits.STEPS)
def test_a_dirac_canary_is_seen_beside_real_gradients(step):
    values, run = projections(step, "dirac", noise=0.01, rate=4.0)
    member = run.member.numpy()
    gain = values[:, member].mean() - values[:, ~member].mean()
    assert gain == pytest.approx(4 * audits.RATE, rel=0.5)
    assert np.median(values[:, member].max(0)) == pytest.approx(1, abs=0.2)


def test_both_steps_release_the_same_of_input_canaries():
    """Same sample, same noise, same network: the engine is `PrivateGrad` in a loop."""
    one, other = (projections(step, "input")[0] for step in audits.STEPS)
    assert one.shape == other.shape
    assert np.abs(one.std() - other.std()) < 0.15


@pytest.mark.nightly
def test_a_line_says_what_was_seen():
    values, run = projections("PrivateGrad", "own", noise=0.5)
    line = audits.audited(torch.from_numpy(values), run, "own", EVENT)
    assert line.four < 1e-5
    assert line.saw().startswith("four tests")
    assert line.epsilon < line.most_epsilon
