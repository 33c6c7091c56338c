"""Loops that cannot be made private, or not by the engine, and what it says to them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dpfunc as dp

KEY = dp.key(3)


def data(size=60, classes=4):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 6, generator=generator)
    return TensorDataset(x, torch.randint(0, classes, (size,), generator=generator))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))


def make(model, **options):
    options = {"batch_size": 12, "noise_multiplier": 1.0, "max_grad_norm": 1.0} | options
    return dp.PrivacyEngine(model, sample_size=60, delta=1e-5, key=KEY, **options)


def attached(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return make(model, **options).attach(optimizer), optimizer


def train(model, loss_of, steps=1, **options):
    """The ordinary loop around ``loss_of(model, x, y)``."""
    engine, optimizer = attached(model, **options)
    for x, y in engine.loader(data()):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        if engine.steps_taken == steps:
            return


# Before the first step


def test_batch_norm_with_its_path():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with pytest.raises(ValueError, match="1: BatchNorm1d normalises with the statistics of the"):
        make(model)
    make(dp.fix_module(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_multiplier": None}, "a noise_multiplier, or a target_epsilon"),
        ({"noise_multiplier": None, "target_epsilon": 3.0}, "steps or epochs, as the noise"),
        ({"steps": 10, "epochs": 1}, "steps or epochs, not both"),
        ({"steps": 0}, "steps >= 1"),
        ({"epochs": -1}, "epochs > 0"),
        ({"batch_size": 61}, "0 < batch_size <= sample_size = 60"),
        ({"max_grad_norm": None}, "max_grad_norm, or a clip rule"),
        ({"clip": dp.Clip(1.0)}, "max_grad_norm, or a clip rule"),
        ({"max_grad_norm": -1.0}, "PrivacyEngine: expected max_grad_norm > 0"),
        ({"loss_reduction": "none"}, 'loss_reduction "mean" or "sum"'),
        ({"noise_multiplier": -1.0}, "a finite noise_multiplier >= 0"),
    ],
)
def test_wrong_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        make(network(), **options)


def test_what_is_no_plain_module():
    with pytest.raises(TypeError, match="expected the plain module but got 'OptimizedModule'"):
        make(torch.compile(network(), backend="eager"))
    with pytest.raises(TypeError, match="expected the plain module but got 'DataParallel'"):
        make(nn.DataParallel(network()))
    with pytest.raises(TypeError, match=r"expected an nn.Module but got 'function'"):
        make(lambda x: x)
    with pytest.raises(ValueError, match="a model with trainable parameters"):
        make(network().requires_grad_(requires_grad=False))


def test_optimizers_of_something_else():
    model, other = network(), nn.Linear(3, 3)
    with pytest.raises(ValueError, match="2 other tensors in it"):
        make(model).attach(torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1))
    with pytest.raises(ValueError, match=r"one without \['0.bias', '0.weight'\]"):
        make(model).attach(torch.optim.SGD(model[2].parameters(), lr=0.1))
    with pytest.raises(ValueError, match="sees each batch once but got 'LBFGS'"):
        make(model).attach(torch.optim.LBFGS(model.parameters()))
    engine, optimizer = attached(model)
    with pytest.raises(ValueError, match="expected an engine without an optimizer"):
        engine.attach(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(ValueError, match="1 other tensors in it"):
        train_with(model, engine, optimizer)


def train_with(model, engine, optimizer):
    for x, y in engine.loader(data()):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("option", ["batch_size", "shuffle", "sampler", "drop_last"])
def test_loaders_that_are_not_poisson(option):
    engine, _ = attached(network())
    with pytest.raises(ValueError, match=f"leave the sampling alone but got .*{option}"):
        engine.loader(data(), **{option: 1})


def test_datasets_of_another_kind_or_size():
    engine, _ = attached(network())
    with pytest.raises(ValueError, match="a dataset of sample_size = 60 samples but got 59"):
        engine.loader(data(59))
    with pytest.raises(TypeError, match="a dataset with __getitem__ and __len__"):
        engine.loader(iter([1, 2]))


def test_batches_that_the_engine_did_not_draw():
    model = network()
    _, optimizer = attached(model)
    x, y = next(iter(DataLoader(data(), batch_size=12)))
    with pytest.raises(RuntimeError, match=r"a Poisson batch from engine.loader"):
        F.cross_entropy(model(x), y).backward()
    with pytest.raises(RuntimeError, match=r"a Poisson batch from engine.loader"):
        optimizer.step()


def test_a_batch_of_its_own_beside_the_drawn_one():
    with pytest.raises(ValueError, match="samples of the batch on axis 0 of the model's inputs"):
        train(network(), lambda m, x, y: m(torch.randn(77, 6)).mean())


def test_the_same_batch_twice():
    model = network()
    engine, optimizer = attached(model)
    x, y = next(iter(engine.loader(data())))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"a Poisson batch from engine.loader"):
        model(x)


# Losses that mix samples


def token_mean(model, x, y):
    """The mean over the entries that count in the whole batch."""
    return F.cross_entropy(model(x), torch.where(y == 0, -100, y))


def class_weights(model, x, y):
    return F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))


def contrastive(model, x, y):
    z = F.normalize(model(x), dim=1)
    return F.cross_entropy(z @ z.T, torch.arange(len(z)))


def centred(model, x, y):
    logits = model(x)
    return F.cross_entropy(logits - logits.mean(0), y)


def weights_of_the_batch(model, x, y):
    return (F.cross_entropy(model(x), y, reduction="none") * (y / y.sum())).sum()


def largest(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none").max()


def over_a_count(model, x, y):
    return F.cross_entropy(model(x), y, reduction="sum") / (y != 0).sum().item()


MIXING = [token_mean, class_weights, contrastive, centred, weights_of_the_batch, largest]


@pytest.mark.parametrize("loss_of", [*MIXING, over_a_count])
def test_losses_that_mix_samples(loss_of):
    model = network()
    before = [param.clone() for param in model.parameters()]
    with pytest.raises(RuntimeError, match=r"PrivacyEngine: expected (the loss|a loss|one term)"):
        train(model, loss_of)
    assert all(map(torch.equal, model.parameters(), before))  # nothing was released


@pytest.mark.parametrize("loss_of", MIXING)
def test_losses_that_mix_samples_under_a_sum(loss_of):
    with pytest.raises(RuntimeError, match=r"PrivacyEngine: expected (the loss|a loss|one term)"):
        train(network(), loss_of, loss_reduction="sum")


def test_the_other_reduction():
    summed = lambda m, x, y: F.cross_entropy(m(x), y, reduction="sum")  # noqa: E731
    mean = lambda m, x, y: F.cross_entropy(m(x), y)  # noqa: E731
    train(network(), summed, loss_reduction="sum")
    train(network(), mean)
    with pytest.raises(RuntimeError, match=r'the mean \(loss_reduction="mean"\)'):
        train(network(), summed)
    with pytest.raises(RuntimeError, match=r'the sum \(loss_reduction="sum"\)'):
        train(network(), mean, loss_reduction="sum")


def test_a_sum_over_the_size_of_the_batch():
    by_len = lambda m, x, y: F.cross_entropy(m(x), y, reduction="sum") / len(x)  # noqa: E731
    by_constant = lambda m, x, y: F.cross_entropy(m(x), y, reduction="sum") / 1000  # noqa: E731
    with pytest.raises(RuntimeError, match="multiplied or divided by their number"):
        train(network(), by_len, loss_reduction="sum")
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected the loss to be the mean"):
        train(network(), by_len)
    train(network(), by_constant, steps=3, loss_reduction="sum")


def test_numbers_of_the_batch_that_change():
    scaled = lambda m, x, y: F.cross_entropy(m(x), y) * (y == 0).float().mean().item()  # noqa: E731
    with pytest.raises(RuntimeError, match="the same numbers in the loss of every batch"):
        train(network(), scaled, steps=3)


def test_tensors_of_the_batch_that_are_made_out_of_sight():
    def by_numpy(model, x, y):
        weight = torch.from_numpy(y.numpy() == 0).double().mean().reshape(1).float()
        return F.cross_entropy(model(x), y) * weight.sum()

    def one_number(model, x, y):
        return F.cross_entropy(model(x), y) * torch.tensor(y.float().mean().item())

    with pytest.raises(RuntimeError, match="a tensor of one number in it"):
        train(network(), one_number)
    with pytest.raises(RuntimeError, match=r"PrivacyEngine: expected a (loss of|tensor)"):
        train(network(), by_numpy, steps=3)


class Mixing(nn.Module):
    """Centres its samples in the forward pass itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x - x.mean(0))


def test_models_that_mix_samples():
    with pytest.raises(RuntimeError, match="to have the same loss and gradient alone"):
        train(Mixing(), lambda m, x, y: F.cross_entropy(m(x), y))


class Remembering(nn.Module):
    """Keeps a running mean of its inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean += 0.1 * (x.mean(0) - self.mean)
        return self.layer(x)


def test_models_that_remember_their_data():
    with pytest.raises(RuntimeError, match=r"changes the buffers \['mean'\]"):
        train(Remembering(), lambda m, x, y: F.cross_entropy(m(x), y))


@pytest.mark.parametrize("kind", [float, np.float32])
def test_numbers_of_the_batch_in_any_place(kind):
    def smoothed(model, x, y):
        rate = kind((y == 0).float().mean().item())
        return F.cross_entropy(model(x), y, label_smoothing=float(rate) / 2) * kind(2.0)

    with pytest.raises(RuntimeError, match="the same numbers in the loss of every batch"):
        train(network(), smoothed, steps=3)


# What is trained out of sight


def test_parameters_used_outside_of_the_forward_pass():
    def penalty(model, x, y):
        return F.cross_entropy(model(x), y) + 1e-2 * model[0].weight.square().sum()

    def part(model, x, y):
        return F.cross_entropy(model(x) + model[2](model[1](model[0](x))), y)

    def in_eval_mode(model, x, y):
        model.train()
        loss = F.cross_entropy(model(x), y)
        model.eval()
        return loss + F.cross_entropy(model(x), y)

    for loss_of in (penalty, part, in_eval_mode):
        with pytest.raises(RuntimeError, match="PrivacyEngine: expected every use of a parameter"):
            train(network(), loss_of)


def test_a_criterion_with_parameters():
    centres = nn.Parameter(torch.zeros(4))
    with pytest.raises(RuntimeError, match="requires grad and comes from elsewhere"):
        train(network(), lambda m, x, y: (m(x) - centres).square().sum(1).mean())


def test_layers_frozen_on_the_way():
    model = network()
    engine, optimizer = attached(model)
    x, y = next(iter(engine.loader(data())))
    F.cross_entropy(model(x), y).backward()
    model[0].requires_grad_(requires_grad=False)
    with pytest.raises(RuntimeError, match="that were trainable when the engine was made"):
        optimizer.step()


# Backward passes and steps of another kind


def test_other_backward_passes():
    model = network()
    engine, _ = attached(model)
    x, y = next(iter(engine.loader(data())))
    losses = F.cross_entropy(model(x), y, reduction="none")
    with pytest.raises(RuntimeError, match=r"expected loss.backward\(\) of a scalar"):
        losses.backward(torch.ones(len(x)))
    with pytest.raises(RuntimeError, match="another backward pass came by"):
        torch.autograd.backward(losses.sum())
    with pytest.raises(RuntimeError, match="expected one kind of gradient"):
        torch.autograd.grad(losses.sum(), list(model.parameters()))


def test_closures():
    model = network()
    engine, optimizer = attached(model)
    x, y = next(iter(engine.loader(data())))

    def closure():
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match=r"optimizer.step.. without a closure"):
        optimizer.step(closure)


def test_a_step_or_a_batch_left_out():
    model = network()
    engine, optimizer = attached(model)
    batches = iter(engine.loader(data()))
    x, _ = next(batches)
    model(x)
    with pytest.raises(RuntimeError, match=r"loss.backward\(\) for each batch"):
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"loss.backward\(\) for each batch"):
        next(batches)
    engine, optimizer = attached(network())
    batches = iter(engine.loader(data()))
    next(batches)
    with pytest.raises(RuntimeError, match="after a batch that went through the model without a"):
        next(batches)


def test_gradients_of_several_batches_in_one_step():
    model = network()
    engine, _ = attached(model)
    batches = iter(engine.loader(data()))
    x, y = next(batches)
    F.cross_entropy(model(x), y).backward()
    with pytest.raises(RuntimeError, match="for larger batches raise batch_size"):
        next(batches)


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x, y):
        return F.cross_entropy(self.layer(x), y)


def test_a_model_that_returns_its_loss_alone():
    with pytest.raises(RuntimeError, match="expected outputs of each sample from the model"):
        train(Loss(), lambda m, x, y: m(x, y))
