"""L11, for the loops that people write: each releases what plain autograd finds, sample by sample.

The gradients of every step are compared with a Python loop over its samples. A loop gives back,
beside its loss, the tensors ``[B, ...]`` that it has drawn or that another network has made.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

import dpfunc as dp

KEY, MAX_NORM, SIZE, BATCH = dp.key(3), 0.7, 12, 4


@pytest.fixture(autouse=True)
def _start():
    torch.manual_seed(0)


def attached(model, *, parameters=None, noise=0.0, **options):
    optimizer = torch.optim.SGD(parameters or list(model.parameters()), lr=0.1)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=BATCH,
        noise_multiplier=noise,
        max_grad_norm=MAX_NORM,
        delta=1e-5,
        key=KEY,
        **options,
    )
    return engine.attach(optimizer), optimizer


def by_hand(loss, params, rows):
    """The sum of the clipped gradients, by one plain backward pass for each sample."""
    total = {name: torch.zeros_like(param) for name, param in params.items()}
    for sample in zip(*rows, strict=True):
        own = {name: param.clone().requires_grad_() for name, param in params.items()}
        grads = torch.autograd.grad(loss(own, *sample), list(own.values()), materialize_grads=True)
        norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
        for name, grad in zip(own, grads, strict=True):
            total[name] += min(1.0, MAX_NORM / max(norm, 1e-30)) * grad
    return total


def assert_released(model, data, loop, one, steps=6):
    """``loop(model, *batch) -> (loss, drawn)``; ``one(params, *sample, *drawn of it) -> loss``."""
    engine, optimizer = attached(model)
    while engine.steps_taken < steps:
        for batch in engine.loader(data):
            chosen, _ = dp.sampling.poisson(KEY, engine.steps_taken, size=SIZE, rate=BATCH / SIZE)
            before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
            optimizer.zero_grad()
            loss, drawn = loop(model, *batch)
            drawn = [torch.tensor(part.tolist(), dtype=part.dtype)[: len(chosen)] for part in drawn]
            loss.backward()
            optimizer.step()
            expected = by_hand(one, before, [*(t[chosen] for t in data.tensors), *drawn])
            for name, param in model.named_parameters():
                if param.requires_grad:
                    torch.testing.assert_close(param.grad * BATCH, expected[name].to(param.dtype))
    engine.detach()


def plain(model):
    """Of one sample, without the engine; in eval mode nothing is drawn."""
    twin = copy.deepcopy(model).eval()
    return lambda params, x: functional_call(twin, params, (x[None],))


class Net(nn.Sequential):
    def __init__(self, inner=5, outer=3):
        super().__init__(nn.Linear(5, inner), nn.Tanh(), nn.Linear(inner, outer))
        self.double()


WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
X = torch.randn(SIZE, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def weighed(output):
    """Different fixed weights for each output: a sum of squares cannot see a permutation."""
    return (output.tanh() * WEIGHTS).sum(-1)


# Random calls of the loop


def _times(x):
    return torch.randint(0, 10, (len(x),))


DRAWS = {
    "randn": lambda x: torch.randn(x.shape, dtype=x.dtype),
    "randn_like": torch.randn_like,
    "rand_like": torch.rand_like,
    "normal": lambda x: torch.empty_like(x).normal_(),
    "in place": lambda x: torch.zeros_like(x).uniform_(-1, 2),
    "new": lambda x: x.new_empty((len(x), 5)).exponential_(),
    "bernoulli of own numbers": lambda x: torch.bernoulli(x.sigmoid()),
    "bernoulli": lambda x: torch.full_like(x, 0.3).bernoulli(),
    "randint_like": lambda x: torch.randint_like(x, 5),
    "one a sample": lambda x: torch.rand_like(x[:, :1]).expand(-1, 5),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_a_loop_that_draws(draw):
    model, data = Net(), TensorDataset(X)

    def loop(model, x):
        noise = DRAWS[draw](x)
        return weighed(model(x + 0.3 * noise)).mean(), [noise]

    of = plain(model)
    assert_released(model, data, loop, lambda p, x, e: weighed(of(p, x + 0.3 * e)).sum(), steps=4)


def test_a_draw_with_numbers_of_the_whole_batch_is_refused():
    model, data = Net(), TensorDataset(X)
    engine, _ = attached(model)
    (x,) = next(iter(engine.loader(data)))
    chance = (x - x.mean(0)).sigmoid()
    weighed(model(x * torch.bernoulli(chance))).mean().backward()
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected a loss of one term"):
        engine._gathering.finish({}, must=True)
    assert engine.steps_taken == 0


# Fresh public data, and other networks


@pytest.mark.parametrize("kind", ["two losses", "wasserstein", "negatives"])
def test_public_data_beside_private_data(kind):
    """24 steps: two batches of one size are looked at."""
    model, generator = Net(), nn.Linear(2, 5).double().requires_grad_(requires_grad=False)

    def loop(model, x):
        fake = generator(torch.randn(len(x), 2, dtype=x.dtype))
        if kind == "negatives":
            fake = torch.randn(len(x), 5, dtype=x.dtype)
            return F.softplus(weighed(model(fake)) - weighed(model(x))).mean(), [fake]
        if kind == "two losses":
            real, other = weighed(model(x)), weighed(model(fake))
            return F.softplus(-real).mean() + F.softplus(other).mean(), [fake]
        return weighed(model(fake)).mean() - weighed(model(x)).mean(), [fake]

    of = plain(model)

    def one(params, x, fake):
        real, other = weighed(of(params, x)), weighed(of(params, fake))
        if kind == "negatives":
            return F.softplus(other - real).sum()
        if kind == "two losses":
            return (F.softplus(-real) + F.softplus(other)).sum()
        return (other - real).sum()

    assert_released(model, TensorDataset(X), loop, one, steps=24)


@pytest.mark.parametrize("kind", ["no_grad", "detach", "frozen", "input", "itself", "moving"])
def test_outputs_of_another_network(kind):
    model, teacher = Net(), Net(inner=4)  # 4: some batches have as many samples
    if kind == "frozen":
        teacher.requires_grad_(requires_grad=False)

    def loop(model, x):
        network = model if kind == "itself" else teacher
        if kind == "detach":
            target = network(x).detach()
        else:
            with torch.no_grad():
                target = network(x)
        if kind == "moving":
            for param in teacher.parameters():
                param.data.mul_(0.9)
        if kind == "input":
            return weighed(model(x * target.sum(1, keepdim=True))).mean(), [target]
        return weighed(model(x) * target).mean(), [target]

    of = plain(model)

    def one(params, x, target):
        if kind == "input":
            return weighed(of(params, x * target.sum())).sum()
        return weighed(of(params, x) * target).sum()

    assert_released(model, TensorDataset(X), loop, one)


def test_a_network_with_a_gradient_is_refused():
    model, other = Net(), Net()
    engine, optimizer = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    weighed(model(x) * other(x)).mean().backward()
    with pytest.raises(RuntimeError, match="requires grad and comes from elsewhere"):
        optimizer.step()


# Randomness in the model


class Noisy(nn.Module):
    """Draws in forward, in training mode alone; ``kept`` has what it drew."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(5, 5).double(), nn.Linear(5, 3).double()
        self.kept = None

    def forward(self, x, kept=None):
        hidden = self.first(x).tanh()
        if kept is None:
            kept = self.draw(hidden)
            self.kept = kept.detach()
        return self.last(x + hidden * kept)

    def draw(self, hidden):
        match self.kind:
            case "vae":
                return torch.randn_like(hidden)
            case "shape":
                return torch.randn(hidden.shape, dtype=hidden.dtype)
            case "drop path":
                return hidden.new_empty((len(hidden), 1)).bernoulli_(0.5) / 0.5
            case "stochastic depth":
                return torch.empty((len(hidden), 1), dtype=hidden.dtype).bernoulli_(0.5)
            case "floor":
                return (0.5 + torch.rand((len(hidden), 1), dtype=hidden.dtype)).floor_()
        return torch.bernoulli(hidden.detach().sigmoid())


NOISY = ["vae", "shape", "drop path", "stochastic depth", "floor", "of data"]


@pytest.mark.parametrize("kind", NOISY)
def test_a_model_that_draws(kind):
    model, data = Noisy(kind), TensorDataset(X)
    twin = Noisy(kind)

    def loop(model, x):
        output = model(x)
        return weighed(output).mean(), [model.kept]

    def one(params, x, kept):
        return weighed(functional_call(twin, params, (x[None], kept[None]))).sum()

    assert_released(model, data, loop, one, steps=4)


class Mixed(nn.Module):
    """Draws with a probability that is made of the whole batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3).double()

    def forward(self, x):
        return self.layer(x * torch.bernoulli((0.1 * (x - x.mean(0))).sigmoid()))


def test_a_model_that_draws_with_numbers_of_the_whole_batch_is_refused():
    model = Mixed()
    engine, _ = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected a model that keeps its"):
        model(x)


# Checkpointed, sparse, partly frozen


class Checkpointed(nn.Module):
    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.last = layer, nn.Linear(width, 3).double()

    def forward(self, x):
        inner = self.layer
        x = checkpoint(inner, x, use_reentrant=False) if self.training else inner(x)
        return self.last(x.flatten(1))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def normed():
    layer = nn.Linear(5, 5)
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    return nn.Sequential(nn.Unflatten(1, (1, 5)), layer, nn.LayerNorm(5), nn.Tanh())


def convolution():
    return nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 3), nn.Tanh())


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("make", [normed, convolution])
def test_activation_checkpointing(make, calls):
    layer = make().double()
    model = Checkpointed(layer, layer(X).flatten(1).shape[1])
    of = plain(model)

    def total(outputs):
        return weighed(sum(outputs))

    def loop(model, x):
        return total([model((k + 1.0) * x) for k in range(calls)]).mean(), []

    def one(params, x):
        return total([of(params, (k + 1.0) * x) for k in range(calls)]).sum()

    assert_released(model, TensorDataset(X), loop, one, steps=3)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_sparse_embedding(sparse):
    ids = torch.arange(SIZE * 3).reshape(SIZE, 3) * 7 % 20

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 3, sparse=sparse).double()

        def forward(self, ids):
            return self.table(ids).cumsum(1)[:, -1]

    model = Table()
    of = plain(model)
    assert_released(
        model,
        TensorDataset(ids),
        lambda model, ids: (weighed(model(ids)).mean(), []),
        lambda params, ids: weighed(of(params, ids)).sum(),
    )


def test_an_optimizer_that_knows_frozen_parameters():
    model = Net()
    model[0].requires_grad_(requires_grad=False)
    kept, of = model[0].weight.clone(), plain(model)
    assert_released(
        model,
        TensorDataset(X),
        lambda model, x: (weighed(model(x)).mean(), []),
        lambda params, x: weighed(of(params, x)).sum(),
    )
    assert torch.equal(model[0].weight, kept)


def test_frozen_parameters_with_a_gradient_and_thawed_ones_are_refused():
    model = Net()
    frozen = model[0].requires_grad_(requires_grad=False)
    engine, optimizer = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    weighed(model(x)).mean().backward()
    frozen.weight.grad = torch.ones_like(frozen.weight)
    with pytest.raises(ValueError, match="PrivacyEngine: expected frozen parameters without a gra"):
        optimizer.step()
    frozen.weight.grad = None
    frozen.requires_grad_(requires_grad=True)
    with pytest.raises(RuntimeError, match=r"\['0.bias', '0.weight'\] can be trained now"):
        optimizer.step()


# What would void the guarantee, or train on nothing


@pytest.mark.parametrize(
    "sampler", [SubsetRandomSampler(range(6)), WeightedRandomSampler([1.0] * SIZE, SIZE)]
)
def test_a_loader_with_a_sampler_of_its_own_is_refused(sampler):
    engine, _ = attached(Net())
    loader = DataLoader(TensorDataset(X), batch_size=BATCH, sampler=sampler)
    with pytest.raises(ValueError, match="without a sampler or a batch_sampler of its own"):
        engine.loader(loader)


def test_a_gradient_that_is_read_before_the_step_is_refused():
    model = Net()
    engine, optimizer = attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    weighed(model(x)).mean().backward()
    with pytest.raises(RuntimeError, match=r"PrivacyEngine: expected nobody to read .grad"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)) > 0  # a private one


def test_an_engine_that_is_gone_lets_go_of_the_model_and_not_of_the_optimizer():
    model = Net()
    engine, optimizer = attached(model)
    with pytest.raises(RuntimeError, match=r"call detach\(\) on the first engine"):
        attached(model)
    (x,) = next(iter(engine.loader(TensorDataset(X))))
    del engine
    weighed(model(x)).mean().backward()  # ordinary gradients
    with pytest.raises(RuntimeError, match="the engine that this optimizer is attached to but it"):
        optimizer.step()
    attached(model)


# What a loop does to its batch, and to the gradients of outputs


def in_place_loop(change, *, hook=None):
    """A loop that writes to its batch, on a model that is looked at without the write first."""
    model = Net()
    engine, optimizer = attached(model)
    for batch in range(2):
        for (x,) in engine.loader(TensorDataset(X.clone())):
            if batch:
                change(x)
            optimizer.zero_grad()
            output = model(x)
            if hook and batch:
                output.register_hook(hook)
            weighed(output).mean().backward()
            optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.copy_(x.mean(0, keepdim=True).expand_as(x)),
        lambda x: x.sub_(x.mean(0)),
        lambda x: torch.sub(x, x.mean(0), out=x),
        lambda x: x.__setitem__(slice(1, None), x[:1].clone()),
    ],
    ids=["copy", "sub", "out", "setitem"],
)
def test_a_batch_that_the_loop_mixes_in_place_is_refused(change):
    with pytest.raises(RuntimeError, match="of one term for each sample"):
        in_place_loop(change)


@pytest.mark.parametrize("change", [lambda x: x.div_(2), lambda x: x.__setitem__(..., x + 1)])
def test_a_batch_that_the_loop_scales_in_place_is_taken(change):
    in_place_loop(change)


def test_a_hook_on_what_the_model_returned_is_refused():
    """``grad + grad.mean(0)`` would mix samples where nothing looks."""
    with pytest.raises(RuntimeError, match="without hooks on tensors"):
        in_place_loop(lambda x: None, hook=lambda grad: grad + grad.mean(0, keepdim=True))
