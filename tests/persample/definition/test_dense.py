"""The definition against a Python loop of B=1 backward passes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dpfunc as dp
from tests.devices import DEVICES


def loop(loss_fn, params, *batch):
    """Per-sample gradients and losses from one backward pass a sample."""
    rows, losses = [], []
    for sample in zip(*batch, strict=True):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        loss = loss_fn(leaves, *sample)
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        rows.append(
            [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(params.values(), grads, strict=True)
            ]
        )
        losses.append(loss.detach())
    stacked = (torch.stack(column) for column in zip(*rows, strict=True))
    return dict(zip(params, stacked, strict=True)), torch.stack(losses)


class Tied(nn.Module):
    """A parameter used twice, one frozen, one unused."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, tokens):
        return self.frozen(self.mix(self.embed(tokens)).tanh()) @ self.embed.weight.T


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)), (7,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3, stride=2, padding=1),
            nn.GroupNorm(2, 6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(6 * 4, 4),
        ),
        (2, 8, 8),
    ),
    "transformer": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(40, 4),
        ),
        (5, 8),
    ),
}


def classify(model):
    def loss_fn(params, x, y):
        logits = torch.func.functional_call(model, params, (x[None],))
        return F.cross_entropy(logits, y[None])

    return loss_fn


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_per_sample_gradients_equal_a_loop(name, size, dtype, tolerance, device):
    make, shape = MODELS[name]
    model = make().to(device, dtype)
    x = dp.normal(dp.key(1), (size, *shape)).to(device, dtype)
    y = torch.arange(size, device=device) % 4
    params = dp.named_params(model)
    grads, losses = dp.per_sample_grad_and_loss(classify(model))(params, x, y)
    expected, expected_losses = loop(classify(model), params, x, y)
    torch.testing.assert_close(losses, expected_losses, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(grads, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(dp.per_sample_grad(classify(model))(params, x, y), grads)


def test_tied_frozen_and_unused_parameters():
    model = Tied().double()
    tokens = torch.arange(12).reshape(4, 3) % 11
    params = dp.named_params(model)
    assert sorted(params) == ["embed.weight", "mix.bias", "mix.weight", "unused"]

    def loss_fn(params, tokens):
        return torch.func.functional_call(model, params, (tokens[None],)).square().mean()

    grads = dp.per_sample_grad(loss_fn)(params, tokens)
    torch.testing.assert_close(grads, loop(loss_fn, params, tokens)[0], rtol=1e-10, atol=1e-12)
    assert not grads["unused"].any()


@given(
    size=st.integers(0, 4),
    shapes=st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=3),
)
def test_shapes_are_batch_first(size, shapes):
    params = {f"p{i}": torch.ones(shape) for i, shape in enumerate(shapes)}
    grads, losses = dp.per_sample_grad_and_loss(
        lambda params, x: sum(p.square().sum() for p in params.values()) * x
    )(params, torch.arange(float(size)))
    assert losses.shape == (size,)
    for name, param in params.items():
        assert grads[name].shape == (size, *param.shape)
        for i in range(size):
            torch.testing.assert_close(grads[name][i], 2.0 * i * param)


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_batch_has_empty_gradients(name):
    make, shape = MODELS[name]
    model = make()
    params = dp.named_params(model)
    labels = torch.zeros(0, dtype=torch.int64)
    grads, losses = dp.per_sample_grad_and_loss(classify(model))(
        params, torch.zeros(0, *shape), labels
    )
    assert {n: g.shape for n, g in grads.items()} == {n: (0, *p.shape) for n, p in params.items()}
    assert losses.shape == (0,)


def test_a_bad_sample_spoils_its_own_row_alone():
    params = {"w": torch.ones(2)}
    x = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [3.0, 4.0]])
    grads = dp.per_sample_grad(lambda params, x: (params["w"] * x).sum().square())(params, x)["w"]
    assert grads.isfinite().all(1).tolist() == [True, False, True]


def test_batches_may_be_nested():
    def loss_fn(params, sample):
        return (params["w"] * sample["x"][0]).sum() + sample["y"]

    batch = {"x": (torch.eye(3),), "y": torch.arange(3.0)}
    grads, losses = dp.per_sample_grad_and_loss(loss_fn)({"w": torch.ones(3)}, batch)
    assert torch.equal(grads["w"], torch.eye(3))
    assert losses.tolist() == [1, 2, 3]


def test_it_composes_with_other_transforms():
    def norm_of_gradients(w):
        grads = dp.per_sample_grad(lambda params, x: (params["w"] * x).sum().square())
        return grads({"w": w}, torch.eye(2))["w"].square().sum()

    second = torch.func.grad(norm_of_gradients)(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(second, torch.tensor([8.0, 16.0]))


def test_dropout_is_refused_unless_each_sample_draws_its_own_mask():
    def loss_fn(params, x):
        return (F.dropout(params["w"], 0.5) * x).sum()

    params, x = {"w": torch.ones(200)}, torch.ones(2, 1)
    with pytest.raises(RuntimeError, match="random"):
        dp.per_sample_grad(loss_fn)(params, x)
    rows = dp.per_sample_grad(loss_fn, randomness="different")(params, x)["w"]
    assert not torch.equal(rows[0], rows[1])
    with pytest.raises(ValueError, match=r"expected randomness .* but got 'same'"):
        dp.per_sample_grad(loss_fn, randomness="same")


@pytest.mark.parametrize(
    ("params", "batch", "message"),
    [
        ({}, (torch.ones(2),), "params: expected at least one parameter"),
        ({"w": torch.ones(1)}, (torch.ones(2), torch.ones(3)), "same number of samples"),
        ({"w": torch.ones(1)}, (), "at least one tensor"),
        ({"w": torch.ones(1)}, (torch.ones(()),), "axis 0"),
        ({"w": torch.ones(1)}, (torch.ones(2, 3),), "loss_fn: expected a scalar"),
    ],
)
def test_errors(params, batch, message):
    with pytest.raises(ValueError, match=message):
        dp.per_sample_grad(lambda params, *x: params["w"] * x[0])(params, *batch)


def test_a_batch_is_made_of_tensors():
    with pytest.raises(TypeError, match="expected tensors in tuples, lists or dicts but got 'int'"):
        dp.per_sample_grad(lambda params, x, n: params["w"].sum())(
            {"w": torch.ones(1)}, torch.ones(2), 3
        )
