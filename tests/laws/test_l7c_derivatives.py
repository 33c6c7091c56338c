"""Losses with derivatives of their own: exact with ``engine="auto"``, else refused in words."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.persample.automatic import automatic_grad
from dpfunc.persample.factors.reduce import weighted_sum

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def critic():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1)).double()


MODEL = critic()


def score(params, x):
    return functional_call(MODEL, params, (x[None],)).sum()


def slope(params, x):
    """The penalty of WGAN-GP."""
    grad = torch.func.grad(lambda z: score(params, z))(x)
    return score(params, x) + 10 * (grad.norm() - 1) ** 2


def residual(params, x):
    """A differential equation in the first coordinate."""
    hessian = torch.func.hessian(lambda z: score(params, z))(x)
    return (hessian[0, 0] + score(params, x)) ** 2


def along(params, x):
    value, rate = torch.func.jvp(lambda z: score(params, z), (x,), (x,))
    return value + rate.square()


def of_the_parameters(params, x):
    grads = torch.func.grad(lambda own: score(own, x))(params)
    return sum(grad.square().sum() for grad in grads.values()) + score(params, x)


def adversarial(params, x):
    step = torch.func.grad(lambda z: score(params, z))(x)
    return score(params, x + 0.1 * step.detach().sign()).square()


def by_hand(loss, params):
    rows = []
    for sample in X:
        own = {name: param.clone().requires_grad_() for name, param in params.items()}
        grads = torch.autograd.grad(loss(own, sample), list(own.values()), materialize_grads=True)
        rows.append(grads)
    return dict(zip(params, map(torch.stack, zip(*rows, strict=True)), strict=True))


LOSSES = [slope, residual, along, of_the_parameters, adversarial]


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # functorch calls it
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_one_sample(loss):
    params, weights = dp.named_params(MODEL), torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0]).double()
    grads, _ = automatic_grad(loss)(params, X)
    expected = by_hand(loss, params)
    torch.testing.assert_close(
        weighted_sum(grads, dp.types.Weights(dict.fromkeys(params, weights), 1.0)).values,
        {name: torch.tensordot(weights, rows, 1) for name, rows in expected.items()},
    )
    with pytest.raises(RuntimeError, match="factored_grad: expected a loss without derivatives"):
        dp.factored_grad(loss)(params, X)


def by_autograd(params, x):
    """The same penalty on the whole batch, by `torch.autograd.grad`."""
    x = x.detach().requires_grad_()
    scores = functional_call(MODEL, params, (x,)).sum(1)
    (grad,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores + 10 * (grad.norm(dim=1) - 1) ** 2


def test_a_loss_of_the_whole_batch():
    params = dp.named_params(MODEL)
    grads, _ = automatic_grad(dp.batched(by_autograd))(params, X)
    torch.testing.assert_close(grads, by_hand(slope, params))
    with pytest.raises(RuntimeError, match="factored_grad: expected a loss without derivatives"):
        dp.factored_grad(dp.batched(by_autograd))(params, X)


def test_a_penalty_that_mixes_samples_has_no_gradient_of_others():
    """In the dense engine a sample is alone, so that nothing of the others can be in its term."""

    def mixing(params, x):
        return by_autograd(params, x - x.mean(0))

    params = dp.named_params(MODEL)
    grads, _ = automatic_grad(dp.batched(mixing))(params, X)
    alone, _ = automatic_grad(dp.batched(mixing))(params, X[2:3])
    torch.testing.assert_close(grads["0.weight"][2:3], alone["0.weight"])


def attached(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "delta": 1e-5, "key": dp.key(1)}
    return dp.PrivacyEngine(model, sample_size=5, batch_size=5, **options).attach(optimizer)


class Forces(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = critic()

    def forward(self, x):
        x = x.detach().requires_grad_()
        (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return force


def test_the_engine_refuses_them_in_words():
    model = critic()
    engine = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    z = x.detach().requires_grad_()
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected one kind of gradient"):
        torch.autograd.grad(model(z).sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected a model without derivatives"):
        torch.func.vmap(torch.func.grad(lambda z: model(z[None]).sum()))(x)
    engine.detach()
    model = Forces()
    engine = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected a model without derivatives"):
        model(x)
