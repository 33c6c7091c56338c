"""A loss that leaves params out is refused: noise would be all that they are trained on."""

import pytest
import torch
from torch import nn

import dpfunc as dp

MODEL = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def of_none(_params, x, y):
    return nn.functional.cross_entropy(MODEL(x[None]), y[None])


def of_the_head(params, x, y):
    head = {name[2:]: value for name, value in params.items() if name.startswith("2.")}
    logits = torch.func.functional_call(MODEL[2], head, (MODEL[:2](x[None]),))
    return nn.functional.cross_entropy(logits, y[None])


def of_none_at_once(_params, x, y):
    return nn.functional.cross_entropy(MODEL(x), y, reduction="none")


def slope_of_none(_params, x, y):
    """With a derivative inside, which only the definition runs."""
    return torch.func.grad(lambda z: nn.functional.cross_entropy(MODEL(z[None]), y[None]))(x).sum()


LOSSES = {
    "none": (of_none, "leaves out 4 of them: '0.weight', '0.bias', '2.weight', ...;"),
    "head": (of_the_head, "leaves out 2 of them: '0.weight', '0.bias';"),
    "batched": (dp.batched(of_none_at_once), "leaves out 4 of them"),
    "slope": (slope_of_none, "leaves out 4 of them"),
}


def private_grad(loss_fn, **options):
    noise = dp.GaussianNoise(1.0, key=dp.key())
    return dp.PrivateGrad(loss_fn, clip=dp.Clip(1.0), noise=noise, expected_batch_size=6, **options)


@pytest.mark.parametrize("engine", ["auto", "dense", "factored"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_private_step_is_refused(name, engine):
    loss_fn, words = LOSSES[name]
    if (name, engine) == ("slope", "factored"):
        pytest.skip("refused for its derivative")
    private, params = private_grad(loss_fn, engine=engine), dp.named_params(MODEL)
    with pytest.raises(ValueError, match=r"functional_call\(model, params, \(x,\)\)") as caught:
        private.update(params, (X, Y), private.init(params))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["none", "head", "batched"])
def test_factored_gradients_are_refused(name):
    loss_fn, words = LOSSES[name]
    with pytest.raises(ValueError, match="loss_fn: expected a loss that depends on all") as caught:
        dp.factored_grad(loss_fn)(dp.named_params(MODEL), X, Y)
    assert words in str(caught.value)


def test_the_definition_and_the_report_take_it():
    """Research may ask for zeros, and `explain` tells which parameters have no use."""
    params = dp.named_params(MODEL)
    assert dp.per_sample_grad(of_the_head)(params, X, Y)["0.weight"].abs().max() == 0
    rows = {row.parameter: row.operations for row in dp.explain(of_the_head, params, X, Y).rows}
    assert rows["0.weight"] == rows["0.bias"] == "none" != rows["2.weight"]


@pytest.mark.parametrize("engine", ["auto", "dense"])
def test_a_gradient_of_zero_is_a_use(engine):
    """LoRA begins with a zero matrix: what is before it has no gradient, and is used."""
    params = {"a": torch.ones(3), "b": torch.zeros(3)}
    private = private_grad(lambda p, x: (p["a"] * p["b"] * x).sum(), engine=engine)
    grads, _, aux = private.update(params, X, private.init(params))
    assert grads["a"].abs().max() > 0
    assert (aux.norms > 0).all()


def test_a_batch_of_nobody_tells_nothing_of_the_loss():
    params = dp.named_params(MODEL)
    private = private_grad(of_none)
    private.update(params, (X[:0], Y[:0]), private.init(params))


@pytest.mark.parametrize("engine", ["auto", "dense"])
def test_looking_draws_nothing_of_the_loops_generator(engine):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    private = private_grad(
        dp.loss_of(model, nn.functional.cross_entropy), engine=engine, randomness="different"
    )
    params = dp.named_params(model)
    draws = []
    for _ in range(2):  # the look is at the first of them alone
        torch.manual_seed(5)
        private.update(params, (X, Y), private.init(params))
        draws.append(torch.rand(()))
    assert draws[0] == draws[1]
