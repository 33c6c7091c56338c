"""Modules that mix samples, each in its own way, and modules that do not; by probing them alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from tests.modules.checking.networks import Written, linear, samples, squared_errors

X, SEQUENCES = samples(8, 6), samples(8, 5, 6)


def gated(gate):
    forward = lambda self, x: self.a(x) + self.gate * self.b(x).mean(0)  # noqa: E731
    return Written(forward, a=linear(), b=linear(), gate=nn.Parameter(gate))


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


MIXING = {
    # name: module, batch, path of the layer that does it
    "centred": (lambda: nn.Sequential(linear(), Centred(), linear()), X, "1"),
    "centred before an inner layer": (
        lambda: nn.Sequential(linear(), Written(lambda s, x: s.a(x - x.mean(0)), a=linear())),
        X,
        "1",
    ),
    "BatchNorm": (lambda: nn.Sequential(linear(), nn.BatchNorm1d(6)).train(), X, "1"),
    "softmax over samples": (lambda: nn.Sequential(linear(), nn.Softmax(0)), X, "1"),
    "softmax over the first axis, of old": (lambda: nn.Sequential(nn.Softmax(dim=0)), X, "0"),
    "attention over samples": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0)),
        SEQUENCES,
        "0.self_attn",
    ),
    "LSTM over samples": (lambda: nn.Sequential(nn.LSTM(6, 4)), SEQUENCES, "0"),
    "similarities": (
        lambda: Written(lambda s, x: F.normalize(s.a(x)) @ s.a(x).t(), a=linear()),
        X,
        "",
    ),
    "samples turned around": (lambda: Written(lambda s, x: s.a(x).flip(0), a=linear()), X, ""),
    "samples shifted": (lambda: Written(lambda s, x: s.a(x).roll(1, 0), a=linear()), X, ""),
    "samples sorted": (lambda: Written(lambda s, x: s.a(x)[x[:, 0].argsort()], a=linear()), X, ""),
    "divided by the largest": (
        lambda: Written(lambda s, x: s.a(x) / x.abs().max(), a=linear()),
        X,
        "",
    ),
    "a running sum": (lambda: Written(lambda s, x: s.a(x).cumsum(0), a=linear()), X, ""),
    "a branch on the batch": (
        lambda: Written(lambda s, x: s.a(x) if x[0, 0] > x[1, 0] else s.a(2 * x), a=linear()),
        X,
        "",
    ),
    "other layers by the batch": (
        lambda: Written(
            lambda s, x: s.a(x) if x[0, 0] > x[1, 0] else s.b(x), a=linear(), b=linear()
        ),
        X,
        "",
    ),
    "behind a gate at zero": (lambda: gated(torch.zeros(6)), X, ""),
    "behind a gate near zero": (lambda: gated(torch.full((6,), -1e-9)), X, ""),
    "with the noise of another": (
        lambda: Written(lambda s, x: s.a(x) + torch.randn_like(x) * x.std(), a=linear()),
        X,
        "",
    ),
    "merged with positions": (
        lambda: nn.Sequential(nn.Flatten(0, 1), Centred(), nn.Unflatten(0, (-1, 5))),
        SEQUENCES,
        "1",
    ),
}

APART = {
    "linear": (lambda: nn.Sequential(linear(), nn.ReLU(inplace=True)), X),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), X),
    "LayerNorm and GELU": (lambda: nn.Sequential(nn.LayerNorm(6), nn.GELU()), SEQUENCES),
    "BatchNorm in eval mode": (lambda: nn.BatchNorm1d(6).eval(), X),
    "attention over positions": (
        lambda: nn.TransformerEncoderLayer(6, 2, 12, batch_first=True),
        SEQUENCES,
    ),
    "fused attention in eval mode": (
        lambda: nn.TransformerEncoderLayer(6, 2, 12, batch_first=True).eval(),
        SEQUENCES,
    ),
    "LSTM over positions": (lambda: nn.LSTM(6, 4, batch_first=True), SEQUENCES),
    "positions before samples inside": (
        lambda: Written(lambda s, x: s.a(x.transpose(0, 1))[0].transpose(0, 1), a=nn.LSTM(6, 4)),
        SEQUENCES,
    ),
    "positions before samples in what is returned": (
        lambda: Written(lambda s, x: s.a(x.transpose(0, 1))[0], a=nn.LSTM(6, 4)),
        samples(8, 4, 6),
    ),
    "merged with positions": (
        lambda: nn.Sequential(nn.Flatten(0, 1), linear(), nn.Unflatten(0, (-1, 5))),
        SEQUENCES,
    ),
    "rows of experts": (
        lambda: Written(
            lambda s, x: torch.zeros_like(x).index_add(
                0, i := (x[:, 0] > 0).nonzero()[:, 0], s.a(x[i])
            ),
            a=linear(),
        ),
        X,
    ),
    "half precision": (lambda: linear().bfloat16(), X.bfloat16()),
    "with noise of its own": (
        lambda: Written(lambda s, x: s.a(x) + 0 * torch.randn_like(x), a=linear()),
        X,
    ),
}


def mixing_of(model, batch, loss_fn=None):
    report = dp.check_module(model, loss_fn, batch=batch)
    return [at for at in report if "changes with another sample" in at.what]


@pytest.mark.parametrize("case", MIXING)
def test_samples_that_mix_are_found_with_the_layer(case):
    make, batch, path = MIXING[case]
    report = dp.check_module(make(), batch=batch)
    if case == "BatchNorm":  # looking has told it already
        assert [(at.path, at.severity) for at in report] == [(path, "error")]
        return
    (problem,) = [at for at in report if "changes with another sample" in at.what]
    assert (problem.path, problem.severity) == (path, "error")


@pytest.mark.parametrize("case", APART)
def test_samples_that_do_not_mix_are_left_alone(case):
    make, batch = APART[case]
    assert not [at for at in dp.check_module(make(), batch=batch) if at.severity == "error"]


def test_mixing_is_found_in_a_loss_of_the_whole_batch_and_told_where():
    y = samples(8, 6, seed=2)
    inside = nn.Sequential(linear(), Centred())
    (problem,) = mixing_of(inside, (X, y), squared_errors(inside))
    assert (problem.path, problem.what.split(", ")[-1]) == ("1", "in this layer")
    own = Written(lambda self, x: self.a(x) / x.abs().max(), a=linear())
    (problem,) = mixing_of(own, (X, y), squared_errors(own))
    assert (problem.path, problem.what.split(", ")[-1]) == ("", "in the module's own forward")

    def token_mean(params, x, y):
        errors = (torch.func.functional_call(sound, params, (x,)) - y).square() * (x > 0)
        return errors.sum(1) / (x > 0).sum()

    sound = linear()
    (problem,) = mixing_of(sound, (X, y), dp.batched(token_mean))
    assert (problem.path, problem.what.split(", ")[-1]) == ("", "outside of the module")
    assert mixing_of(sound, (X, y), squared_errors(sound)) == []


@pytest.mark.parametrize("size", [2, 3, 8, 40])
def test_any_number_of_samples_will_do(size):
    x = samples(size, 6)
    assert dp.check_module(linear(), batch=x) == []
    assert len(mixing_of(Centred(), x)) == 1


def test_samples_that_are_all_alike_tell_nothing():
    (problem,) = dp.check_module(Centred(), batch=torch.ones(4, 6))
    assert (problem.what, problem.severity) == ("all samples of the batch are alike", "warning")


def test_a_forward_that_differs_with_the_same_draws_cannot_be_judged():
    generator = torch.Generator()

    def forward(self, x):
        return self.a(x) + torch.rand(6, generator=generator)

    report = dp.check_module(Written(forward, a=linear()), batch=X)
    assert [at.severity for at in report] == ["error", "warning"]
    assert "two runs with the same draws differ" in report[0].what
