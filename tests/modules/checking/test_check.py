import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from tests.modules.checking.networks import (
    ResNet18,
    Written,
    linear,
    samples,
    squared_error,
    squared_errors,
)
from tests.modules.checking.test_state import Restless, assert_unchanged, everything

X, Y = samples(8, 6), samples(8, 6, seed=2)


class Raising(Restless):
    """Changes everything, and then raises."""

    def forward(self, x):
        super().forward(x)
        raise ValueError("on purpose")


class Drawing(Restless):
    """Changes everything, and draws."""

    def forward(self, x):
        return self.inner(F.dropout(super().forward(x)) + torch.rand(()))


@pytest.mark.parametrize("make", [Restless, Raising, Drawing])
@pytest.mark.parametrize("loss", [None, squared_error, squared_errors])
def test_all_is_left_as_it_was(make, loss):
    model, batch = make(), (X.clone(), Y.clone())
    model.register_forward_hook(lambda layer, inputs, output: None)
    before, hooks = everything(model), dict(model._forward_hooks)
    identities = [id(param) for param in model.parameters()]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    dp.check_module(
        model,
        None if loss is None else loss(model),
        batch=batch if loss else batch[:1],
    )
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert_unchanged(model, before)
    assert dict(model._forward_hooks) == hooks
    assert [id(param) for param in model.parameters()] == identities
    assert all(param.grad is None for param in model.parameters())
    assert torch.equal(batch[0], X)
    assert torch.equal(batch[1], Y)
    assert torch.is_grad_enabled()


def test_a_report_is_empty_where_nothing_was_found():
    report = dp.check_module(linear())
    assert report == []
    assert str(report) == "nothing found"


def test_what_looking_has_told_is_not_told_again():
    model = nn.Sequential(linear(), nn.BatchNorm1d(6))
    for loss_fn, batch in ((None, X), (squared_errors(model), (X, Y))):
        assert [at.path for at in dp.check_module(model, loss_fn, batch=batch)] == ["1"]


def test_the_gravest_come_first():
    model = nn.Sequential(linear(), nn.Dropout(), nn.BatchNorm1d(6), linear())
    model[3].weight = model[0].weight
    severities = [at.severity for at in dp.check_module(model, batch=X)]
    assert severities == ["error", "warning", "note"]


def test_what_has_no_numbers_is_looked_at_only():
    model = nn.Sequential(nn.LazyLinear(3))
    assert [at.path for at in dp.check_module(model, batch=X)] == ["0"]
    assert isinstance(model[0], nn.LazyLinear)
    assert dp.check_module(nn.Linear(6, 6, device="meta"), batch=X) == []


@pytest.mark.parametrize(
    ("loss_fn", "batch", "error", "message"),
    [
        (squared_error(linear()), None, ValueError, "expected a batch with the loss_fn"),
        (None, X[:1], ValueError, "expected a batch of at least 2 samples but got 1"),
        (dp.batched(lambda p, x: x), X[:1], ValueError, "at least 2 samples"),
        (lambda p, x: x.sum(), X[:0], ValueError, "at least 1 samples but got 0"),
        (None, (X, X[:3]), ValueError, "the same number of samples"),
        (None, {"x": X, "use_cache": False}, TypeError, "expected tensors in tuples"),
    ],
)
def test_a_batch_that_cannot_serve_is_refused(loss_fn, batch, error, message):
    with pytest.raises(error, match=message):
        dp.check_module(linear(), loss_fn, batch=batch)


def test_one_sample_is_enough_for_the_loss_of_one():
    model = linear()
    assert dp.check_module(model, squared_error(model), batch=(X[:1], Y[:1])) == []


def test_a_frozen_model_and_one_without_parameters_are_checked():
    assert dp.check_module(linear().requires_grad_(False), batch=X) == []
    assert dp.check_module(nn.ReLU(), batch=X) == []


def test_an_unmodified_resnet18_is_mended_checked_and_trained():
    model = ResNet18(width=16)
    assert len(dp.check_module(model)) == 20
    fixed = dp.fix_module(model)
    images, labels = samples(6, 3, 32, 32), torch.arange(6)

    def loss_fn(params, x, y):
        return F.cross_entropy(torch.func.functional_call(fixed, params, (x[None],)), y[None])

    assert dp.check_module(fixed) == []
    assert dp.check_module(fixed, batch=images) == []
    assert dp.check_module(fixed, loss_fn, batch=(images, labels)) == []
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(0.0, key=dp.key(1)),
        expected_batch_size=6,
    )
    params = dp.named_params(fixed)
    grads, _, aux = private.update(params, (images, labels), private.init(params))
    assert (aux.norms > 1).all()
    assert 0 < dp.global_norm({n: g.norm()[None] for n, g in grads.items()}) <= 1 + 1e-6
    before = copy.deepcopy(fixed.state_dict())
    dp.set_grads_(fixed, grads)
    torch.optim.SGD(fixed.parameters(), lr=0.1).step()
    assert all(not torch.equal(p, before[name]) for name, p in fixed.named_parameters())


def test_a_wrapper_around_a_module_is_found_through():
    inner = nn.Sequential(nn.BatchNorm1d(6))
    (problem,) = dp.check_module(Written(lambda self, x: self.model(x), model=inner))
    assert problem.path == "model.0"
