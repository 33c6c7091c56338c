"""Random operations inside a loss: exact in both functional entries, and refused where they mix."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.persample.whole_batch.draws import Draws, draws_differ

WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
X = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Net(nn.Module):
    """Its gradient at ``last.bias`` is ``WEIGHTS * drawn``, which tells what was drawn."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.first, self.last = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        hidden = self.first(x)
        return self.last(hidden) * self.draw(hidden)[:, :1]


def in_place(hidden):
    noise = torch.empty((len(hidden), 4), dtype=hidden.dtype)
    noise.normal_(1.0, 2.0)  # what it returns is not used
    return noise


DRAWS = {
    "randn_like": torch.randn_like,
    "randn": lambda h: torch.randn(h.shape, dtype=h.dtype),
    "empty, in place": in_place,
    "mask, in place": lambda h: torch.empty(h.shape, dtype=h.dtype).bernoulli_(0.5) + 1,
    "scaled mask": lambda h: torch.zeros(h.shape, dtype=h.dtype).bernoulli_(0.5).div_(0.5) + 1,
    "exponential": lambda h: torch.empty_like(h).exponential_(),
    "of data": lambda h: torch.bernoulli(h.detach().sigmoid()) + 1,
    "gumbel": lambda h: F.gumbel_softmax(h.detach()),
    "rrelu": lambda h: F.rrelu(-1 - h.detach().abs(), training=True),
    "whole numbers": lambda h: torch.randint(1, 90, h.shape).to(h.dtype),
}


def losses(model):
    def loss(params, x):
        return (functional_call(model, params, (x,)) * WEIGHTS).sum(-1)

    return loss


@pytest.mark.parametrize("engine", ["one sample", "dense", "whole batch", "one by one"])
@pytest.mark.parametrize("draw", DRAWS)
def test_every_sample_draws_for_itself_and_its_gradient_is_of_what_it_drew(draw, engine):
    model = Net(DRAWS[draw])
    whole = losses(model)
    loss = dp.batched(whole)
    if engine in ("one sample", "dense"):
        loss = lambda params, x: whole(params, x[None])[0]  # noqa: E731
    make = dp.per_sample_grad if engine in ("dense", "one by one") else dp.factored_grad
    params = dp.named_params(model)
    grads = make(loss, randomness="different")(params, X)
    if make is dp.factored_grad:
        grads = {name: grad.dense() for name, grad in grads[0].items()}
    drawn = grads["last.bias"] / WEIGHTS  # [B, 3]: one number for each sample
    torch.testing.assert_close(drawn, drawn[:, :1].expand_as(drawn))
    if draw not in ("mask, in place", "scaled mask", "of data"):
        assert len(drawn[:, 0].unique()) > 2
    hidden = model.first(X).detach()
    torch.testing.assert_close(
        grads["last.weight"], drawn[:, :, None] * WEIGHTS[:, None] * hidden[:, None]
    )
    with pytest.raises(RuntimeError, match=r"randomness error mode|rrelu"):
        make(loss)(params, X)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_a_probability_of_the_whole_batch_is_refused(scale):
    def loss(params, x):
        return (x * torch.bernoulli((scale * (x - x.mean(0))).sigmoid())) @ params["w"]

    marked = dp.batched(loss)
    with pytest.raises(RuntimeError, match=r"batched: expected a sample to|alone as in a batch"):
        dp.factored_grad(marked, randomness="different")({"w": torch.ones(4).double()}, X)


def test_a_shuffle_by_chance_is_refused():
    def loss(params, x):
        order = F.one_hot(torch.rand(len(x)).argsort(), len(x)).double()
        return (order @ x) @ params["w"]

    with pytest.raises(RuntimeError, match="batched: expected"):
        dp.factored_grad(dp.batched(loss), randomness="different")({"w": torch.ones(4).double()}, X)


def test_a_sample_draws_the_same_wherever_it_is():
    key = dp.key(1)
    with Draws(key, torch.arange(6) % 3) as six:
        first = torch.randn(6, 2), torch.rand(12)
    with Draws(key, torch.tensor([2]), six.places) as one:
        second = torch.randn(1, 2), torch.rand(2)
    assert torch.equal(first[0][2:3], second[0])
    assert torch.equal(first[0][5:], second[0])
    assert torch.equal(first[1][4:6], second[1])
    assert len(first[0][:3].unique()) == 6
    assert not draws_differ(six, one, torch.tensor([2]), 1e-9)


def test_rrelu_without_training_draws_nothing():
    loss = dp.batched(lambda params, x: F.rrelu(x @ params["w"]))
    grads, _ = dp.factored_grad(loss)({"w": torch.ones(4).double()}, X)
    assert grads["w"].dense().shape == (7, 4)
