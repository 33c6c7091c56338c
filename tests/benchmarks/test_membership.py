"""The membership benchmark in a tiny form: what memorises is exposed, what is private is not."""

import pytest
import torch

import dpfunc as dp
from benchmarks import membership
from benchmarks.membership import KEY, Size

TINY = Size(records=100, models=16, private_models=8, steps=300, private_steps=6, targets=8)


@pytest.mark.nightly
def test_wrong_labels_are_exposed_without_privacy():
    found = membership.attacked(None, TINY)
    assert found.train > found.test + 0.1
    assert found.curves["LiRA online"].auc.low > 0.5
    assert found.curves["calibrated"].slices[True].auc.value > 0.5
    assert found.event is None


@pytest.mark.nightly
def test_a_private_model_is_below_its_certified_curve():
    found = membership.attacked(3.0, TINY)
    assert not any(curve.above(found.event) for curve in found.curves.values())
    text = membership.table({"epsilon 3": found})
    assert text.splitlines()[-1] == "| attacks above the certified curve | 0 |"


def test_the_private_step_is_that_of_private_grad():
    """A shadow's clipped sum, noise off, is what the library's own step gives."""
    of = membership.data(100)
    params = membership.init(KEY)
    batch, mask = (of.x[:20], of.y[:20]), torch.arange(20) < 17
    moved = membership.private_step(5.0, 0.0)(params, batch, mask)
    private = dp.PrivateGrad(
        lambda p, x, y: torch.nn.functional.cross_entropy(membership.predict(p, x[None]), y[None]),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(1e-6, key=KEY),
        expected_batch_size=5.0,
    )
    grads, _, _ = private.update(params, batch, private.init(params), mask)
    for name, grad in grads.items():
        assert torch.allclose(moved[name], params[name] - 0.5 * grad, atol=1e-5)


def test_the_ratio_is_one_of_times():
    size = TINY._replace(models=4, steps=5)
    assert 0 < membership.ratio(1, size) < 100
