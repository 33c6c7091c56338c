"""The loss of one sample out of a module and a criterion."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import dpfunc as dp

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 1, 0, 1])


def by_hand(model, criterion, x, y):
    rows = []
    for i in range(len(y)):
        loss = criterion(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return dict(zip(dp.named_params(model), map(torch.stack, zip(*rows, strict=True)), strict=True))


WEIGHT = torch.tensor([0.2, 3.0])


@pytest.mark.parametrize(
    "criterion",
    [
        F.cross_entropy,
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=WEIGHT, reduction="sum"),
        nn.CrossEntropyLoss(reduction="none"),
    ],
)
def test_gradients_are_those_of_batches_of_one(criterion):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    grads = dp.per_sample_grad(dp.loss_of(model, criterion))(dp.named_params(model), X, Y)
    for name, rows in by_hand(model, criterion, X, Y).items():
        torch.testing.assert_close(grads[name], rows)


def test_a_model_of_several_inputs_in_any_nesting():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x, more):
            return (self.w * x * more["scale"]).sum(1)

    model, scale = Two(), torch.arange(5.0)[:, None]
    loss_fn = dp.loss_of(model, F.mse_loss)
    grads = dp.per_sample_grad(loss_fn)(dp.named_params(model), X, {"scale": scale}, scale[:, 0])
    residual = (X * scale).sum(1) - scale[:, 0]
    torch.testing.assert_close(grads["w"], 2 * residual[:, None] * X * scale)


def test_frozen_parameters_stay_the_models_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    params = dp.named_params(model)
    grads, _ = dp.factored_grad(dp.loss_of(model, F.cross_entropy))(params, X, Y)
    assert grads.keys() == {"1.weight", "1.bias"}


@pytest.mark.parametrize(
    ("model", "criterion", "error", "message"),
    [
        (F.relu, F.cross_entropy, TypeError, "loss_of: expected an nn.Module"),
        (nn.Linear(3, 2), nn.CrossEntropyLoss, TypeError, "a module made of its class"),
        (nn.Linear(3, 2), "mse", TypeError, r"a criterion\(output, target\)"),
        (nn.Linear(3, 2), nn.CrossEntropyLoss(weight=WEIGHT), ValueError, 'reduction="sum"'),
        (nn.Linear(3, 2), nn.NLLLoss(weight=WEIGHT), ValueError, "divides the loss of one sample"),
    ],
)
def test_a_wrong_model_or_criterion(model, criterion, error, message):
    with pytest.raises(error, match=message):
        dp.loss_of(model, criterion)


def test_a_wrapped_model():
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapped)
    with pytest.raises(TypeError, match="loss_of: expected"):
        dp.loss_of(wrapped, F.cross_entropy)


def test_a_sample_without_a_target_and_a_loss_of_many_numbers():
    model = nn.Linear(3, 2)
    params = dp.named_params(model)
    with pytest.raises(TypeError, match="a sample of inputs and a target"):
        dp.per_sample_grad(dp.loss_of(model, F.cross_entropy))(params, X)
    many = dp.loss_of(model, nn.MSELoss(reduction="none"))
    with pytest.raises(ValueError, match="one number for a batch of one sample"):
        dp.per_sample_grad(many)(params, X, torch.zeros(5, 2))
