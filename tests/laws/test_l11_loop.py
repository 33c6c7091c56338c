"""L11: an ordinary loop around the engine releases what `PrivateGrad` does, and nothing besides."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc import accounting

KEY, MAX_NORM, SIZE, BATCH = dp.key(11), 0.5, 40, 8


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def dataset(size=SIZE):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(x, torch.randint(0, 4, (size,), generator=generator))


def attached(model, *, size=SIZE, batch_size=BATCH, noise=0.0, rate=0.3, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    engine = dp.PrivacyEngine(
        model,
        sample_size=size,
        batch_size=batch_size,
        noise_multiplier=noise,
        max_grad_norm=MAX_NORM,
        delta=1e-5,
        key=KEY,
        **options,
    )
    return engine.attach(optimizer), optimizer


def released(model):
    return torch.cat([param.grad.flatten() for param in model.parameters()])


def by_private_grad(model, data, step):
    """The gradient of this step with the weights of ``model``, without noise."""

    def loss_fn(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])

    noise = dp.GaussianNoise(0.0, key=KEY)
    private = dp.PrivateGrad(
        loss_fn, clip=dp.Clip(MAX_NORM), noise=noise, expected_batch_size=BATCH
    )
    indices, _ = dp.sampling.poisson(KEY, step, size=SIZE, rate=BATCH / SIZE)
    batch = tuple(tensor[indices] for tensor in data.tensors)
    params = dp.named_params(model)
    grads, _, _ = private.update(params, batch, private.init(params))
    return torch.cat([grad.flatten() for grad in grads.values()])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("microbatch_size", [None, 3])
def test_every_step_is_that_of_private_grad(reduction, microbatch_size):
    """Over two epochs, on the Poisson batch of each step, from the weights of each step."""
    model, data = network(), dataset()
    engine, optimizer = attached(model, loss_reduction=reduction)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        for x, y in engine.loader(data, microbatch_size=microbatch_size):
            step = engine.steps_taken
            F.cross_entropy(model(x), y, reduction=reduction).backward()
            optimizer.step()
            if engine.steps_taken == step:
                continue
            here = network()
            here.load_state_dict(before)
            torch.testing.assert_close(released(model), by_private_grad(here, data, step))
            before = copy.deepcopy(model.state_dict())
    assert engine.steps_taken == 2 * SIZE // BATCH


@pytest.mark.parametrize("kind", ["huge", "nan", "duplicate"])
def test_one_record_moves_the_sum_by_no_more_than_the_bound(kind):
    base, model = dataset(12), network()
    x, y = base.tensors
    record = {"huge": 1e4 * torch.ones(1, 6), "nan": torch.full((1, 6), math.nan)}.get(kind, x[:1])
    more = TensorDataset(torch.cat([x, record.double()]), torch.cat([y, y[:1]]))

    def summed(data):
        twin = copy.deepcopy(model)
        size = len(data)
        engine, optimizer = attached(twin, size=size, batch_size=size)
        x, y = next(iter(engine.loader(data)))
        assert len(x) == size
        F.cross_entropy(twin(x), y).backward()
        optimizer.step()
        return released(twin) * size

    moved = (summed(more) - summed(base)).norm().item()
    assert moved <= MAX_NORM * (1 + 1e-6)
    assert moved >= {"huge": 0.999 * MAX_NORM, "nan": 0.0, "duplicate": 1e-3}[kind]


def test_a_batch_of_nobody_releases_noise_alone():
    model = network()
    engine, optimizer = attached(model, batch_size=1e-9, steps=5)
    x, y = next(iter(engine.loader(dataset())))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert not released(model).any()


def test_the_ledger_has_every_step_and_the_run_ends_with_the_budget():
    model, data = network(), dataset()
    engine, optimizer = attached(model, noise=2.0, steps=7)
    taken = 0

    def epoch():
        nonlocal taken
        for x, y in engine.loader(data):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            taken += 1
            event = accounting.dp_sgd(noise_multiplier=2.0, sample_rate=BATCH / SIZE, steps=taken)
            assert engine.event() == event
            bounds = accounting.epsilon_bounds(event, delta=1e-5)
            assert bounds.lower <= engine.epsilon() <= 1.001 * bounds.upper

    epoch()
    with pytest.raises(dp.BudgetSpentError):
        epoch()
    assert taken == 7


def token_mean(model, x, y):
    return F.cross_entropy(model(x), torch.where(y == 0, -100, y))


def penalty(model, x, y):
    loss = F.cross_entropy(model(x), y)
    model[0].weight.square().sum().backward()  # an ordinary gradient
    return loss


def scaled_by_a_number_of_the_batch(model, x, y):
    return F.cross_entropy(model(x), y) * (1.0 + x.detach().numpy().max())


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4).double()
        self.register_buffer("seen", torch.zeros(6, dtype=torch.float64))

    def forward(self, x):
        self.seen.copy_(x[0])
        return self.layer(x)


def test_a_model_that_keeps_its_data_is_refused():
    model = Remembering()
    engine, _ = attached(model)
    x, _ = next(iter(engine.loader(dataset())))
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected a forward pass that leaves"):
        model(x)


@pytest.mark.parametrize("loss_of", [token_mean, penalty, scaled_by_a_number_of_the_batch])
def test_what_would_void_the_guarantee_is_refused(loss_of):
    model = network()
    engine, optimizer = attached(model)

    def train():
        for x, y in engine.loader(dataset()):
            loss_of(model, x, y).backward()
            optimizer.step()

    with pytest.raises(RuntimeError, match="PrivacyEngine: expected"):
        train()
