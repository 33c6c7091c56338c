"""A run that releases noise alone is told so, once, from what it released; others are not."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.engine import noise_alone
from dpfunc.engine.noise_alone import NoiseAlone

SAYS = r"^PrivacyEngine: the gradients of the last \d+ steps .*noise alone.*dropped_share"


def steps_of(model, x, steps, *, noise_multiplier=1.0, batch_size=60.0):
    data = TensorDataset(x, (x.nan_to_num() @ torch.ones(x.shape[1]) > 0).long())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = dp.PrivacyEngine(
        model,
        sample_size=len(x),
        batch_size=batch_size,
        noise_multiplier=noise_multiplier,
        max_grad_norm=0.5,
        delta=1e-5,
        key=dp.key(4),
    ).attach(optimizer)
    with engine:
        while engine.steps_taken < steps:
            for inputs, labels in engine.loader(data):
                F.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
                if engine.steps_taken == steps:
                    break
    return engine


def data():
    return torch.randn(300, 4, generator=torch.Generator().manual_seed(0))


def test_a_diverged_run_says_so_once():
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.fill_(1e30)
    with pytest.warns(UserWarning, match=SAYS) as told:
        engine = steps_of(model, 1e30 * data(), 70)
    assert len(told) == 1
    assert engine.dropped_share() == 1.0


def test_a_run_that_learns_hears_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = steps_of(nn.Linear(4, 2), data(), 70)
    assert engine.dropped_share() == 0.0


def test_nothing_is_said_where_a_gradient_would_not_be_seen():
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.fill_(1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps_of(model, 1e30 * data(), 40, noise_multiplier=30.0)
        steps_of(model, 1e30 * data(), 40, noise_multiplier=0.0)


def test_some_dropped_samples_are_a_share():
    x = data()
    x[:150, 0] = math.nan
    engine = steps_of(nn.Linear(4, 2), x, 3)
    assert 0.2 < engine.dropped_share() < 0.8


def judged(signal, rounds=40, size=400):
    """In how many of so many runs noise plus a signal of this length is called noise."""
    clip, noise = dp.Clip(2.0), dp.GaussianNoise(0.5, key=dp.key(1))
    private = dp.PrivateGrad(
        lambda p, x: p["w"] @ x, clip=clip, noise=noise, expected_batch_size=20
    )
    draw, said = torch.Generator().manual_seed(0), 0
    for _ in range(rounds):
        watching = NoiseAlone(private)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(noise_alone._STEPS):
                grad = 0.5 * 2.0 / 20 * torch.randn(size, generator=draw)
                grad[0] += signal
                watching.saw({"v": grad[: size // 4], "w": grad[size // 4 :]})
        said += len(told)
    return said / rounds


def test_what_is_called_noise():
    """A quarter of the clipping norm, 2, is the least that has to be seen."""
    assert judged(0.0) == 1.0
    assert judged(0.25 * 2.0) == 0.0


def test_aux_tells_who_was_dropped():
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(1.0, key=dp.key(1)),
        expected_batch_size=3,
    )
    params = {"w": torch.ones(2)}
    x = torch.tensor([[1.0, 2.0], [math.nan, 0.0], [math.inf, 0.0]])
    _, _, aux = private.update(params, x, private.init(params))
    assert aux.dropped.tolist() == [False, True, True]
