"""Several views of one record are one sample."""

import pytest
import torch
import torch.nn.functional as F

import dpfunc as dp
from tests.laws.matrix import ENGINE_NAMES, Recorder

PARAMS = {"w": torch.randn(5, 4), "b": torch.randn(5), "v": torch.randn(3, 5)}
X, Y = 4 * torch.randn(6, 3, 4), torch.randint(3, (6, 3))


def loss_fn(params, x, y):
    hidden = torch.tanh(F.linear(x, params["w"], params["b"]))
    return F.cross_entropy(F.linear(hidden, params["v"]), y)


def own_gradients(views_of):
    """Of each record the mean over its views, by plain autograd."""
    grads = []
    for x, y in zip(X[:, :views_of], Y[:, :views_of], strict=True):
        params = {name: p.clone().requires_grad_() for name, p in PARAMS.items()}
        loss = sum(loss_fn(params, *view) for view in zip(x, y, strict=True)) / views_of
        grads.append(dict(zip(params, torch.autograd.grad(loss, params.values()), strict=True)))
    return grads


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize(("count", "max_norm"), [(1, 0.1), (3, 0.1), (3, 100.0)])
def test_a_record_is_clipped_once_as_the_mean_of_its_views(engine, count, max_norm):
    recorder = Recorder()
    private = dp.PrivateGrad(
        dp.views(loss_fn, count),
        clip=dp.Clip(max_norm),
        noise=recorder,
        expected_batch_size=1,
        engine=engine,
    )
    private.update(PARAMS, (X[:, :count], Y[:, :count]), private.init(PARAMS))
    expected = {name: torch.zeros_like(p) for name, p in PARAMS.items()}
    for grad in own_gradients(count):
        norm = torch.stack([g.norm() for g in grad.values()]).norm()
        for name in expected:
            expected[name] += grad[name] * min(1.0, max_norm / norm)
    for name, value in recorder.seen[0].values.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    assert recorder.seen[0].bound == pytest.approx(max_norm)


def test_it_stays_factored():
    grads, _ = dp.factored_grad(dp.views(loss_fn, 3))(PARAMS, X, Y)
    dense = dp.per_sample_grad(dp.views(loss_fn, 3))(PARAMS, X, Y)
    assert type(grads["w"]).__name__ in ("Outer", "Dense")
    for name in PARAMS:
        torch.testing.assert_close(grads[name].dense(), dense[name], rtol=1e-4, atol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match="samples with 2 views"):
        dp.per_sample_grad(dp.views(loss_fn, 2))(PARAMS, X, Y)
    with pytest.raises(TypeError, match="a loss of one sample"):
        dp.views(dp.batched(loss_fn), 2)
    with pytest.raises(ValueError, match="int count >= 1"):
        dp.views(loss_fn, 0)
