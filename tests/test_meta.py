"""A whole step on the ``meta`` device, which has no data: it stands in for an absent GPU.

A stray ``.item()`` or ``.cpu()``, or a tensor made on another device, raises there.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from dpfunc.step.private_grad import ENGINES
from tests.laws.matrix import CLIPS, Setting, loss_fn, setting

META = torch.device("meta")


def on_meta(at):
    return Setting({n: p.to(META) for n, p in at.params.items()}, at.x.to(META), at.y.to(META))


@pytest.mark.parametrize("microbatch", [None, 2])
@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_step_never_leaves_its_device(engine, rule, microbatch):
    at = on_meta(setting(torch.float32, "cpu"))
    private = dp.PrivateGrad(
        loss_fn,
        clip=CLIPS[rule],
        noise=dp.GaussianNoise(1.0, key=dp.key(1)),
        expected_batch_size=6,
        microbatch_size=microbatch,
        engine=engine,
    )
    state = private.init(at.params)
    mask = torch.ones(6, dtype=torch.bool, device=META)
    for _ in range(2):
        grads, state, aux = private.update(at.params, (at.x, at.y), state, mask)
    for name, param in at.params.items():
        assert (grads[name].device, grads[name].shape) == (META, param.shape)
    assert aux.norms.device == aux.losses.device == META


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_module_on_meta(engine):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)
    ).to(META)

    def model_loss(params, x, y):
        logits = torch.func.functional_call(model, params, (x[None],))
        return F.cross_entropy(logits, y[None])

    params = dp.named_params(model)
    batch = (torch.ones(5, 1, 8, 8, device=META), torch.ones(5, dtype=torch.int64, device=META))
    private = dp.PrivateGrad(
        model_loss,
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(1.0, key=dp.key(1)),
        expected_batch_size=5,
        engine=engine,
    )
    grads, _, _ = private.update(params, batch, private.init(params))
    dp.set_grads_(model, grads)
    assert all(param.grad.device == META for param in model.parameters())


def test_the_torch_cipher_serves_devices_without_openssl():
    assert dp.normal(dp.key(1), (5,), device=META).shape == (5,)
    assert dp.normal(dp.key(1), (5,), dtype=torch.float64, device=META).device == META
