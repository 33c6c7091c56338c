"""L11: what is refused is refused for its true cause, before anything is released."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dpfunc as dp

SIZE = 12
X = torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(1))
IDS = torch.arange(SIZE * 2).reshape(SIZE, 2) % 5


def attached(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5, "key": dp.key(3)}
    engine = dp.PrivacyEngine(model, sample_size=SIZE, batch_size=6, **options)
    return engine.attach(optimizer), optimizer


def train(model, loss_of, data=X):
    engine, optimizer = attached(model)
    try:
        for (x,) in engine.loader(TensorDataset(data)):
            loss_of(model, x).backward()
            optimizer.step()
    finally:
        assert engine.steps_taken == 0


def contrastive(model, x):
    z = model(x)
    return F.cross_entropy(z @ z.T, torch.arange(len(x)))


def mixup(model, x):
    order = torch.randperm(len(x))
    return model(0.7 * x + 0.3 * x[order]).square().mean()


def test_samples_that_are_compared():
    with pytest.raises(RuntimeError, match="matmul compares samples with each other"):
        train(nn.Linear(3, 2), contrastive)


def test_samples_that_are_mixed_by_an_index():
    with pytest.raises(RuntimeError, match="an index mixes them"):
        train(nn.Linear(3, 2), mixup)


class Frequent(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3, scale_grad_by_freq=True)

    def forward(self, ids):
        return self.table(ids).sum(1)


class Ragged(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(5, 3)

    def forward(self, ids):
        return self.table(ids.flatten(), torch.arange(0, ids.numel(), 2))


@pytest.mark.parametrize(
    ("model", "words"),
    [(Frequent, "without scale_grad_by_freq"), (Ragged, "bags of one length")],
)
def test_lookups(model, words):
    with pytest.raises(RuntimeError, match=f"PrivacyEngine: .*batched: expected .*{words}"):
        train(model(), lambda model, ids: model(ids).square().sum(1).mean(), IDS)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)

    def __len__(self):
        return SIZE


def test_a_stream_with_a_length():
    engine, _ = attached(nn.Linear(3, 2))
    for loader in (Stream(), DataLoader(Stream(), batch_size=6)):
        with pytest.raises(TypeError, match="a dataset that is read by index but got 'an Iterable"):
            engine.loader(loader)


def checkpointed(params, x):
    run = lambda x: torch.tanh(x @ params["w"])  # noqa: E731
    return torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)


@pytest.mark.parametrize("make", [dp.factored_grad, dp.per_sample_grad])
def test_a_checkpoint_under_vmap(make):
    with pytest.raises(RuntimeError, match=r"_grad: expected a loss .*activation checkpointing"):
        make(checkpointed)({"w": torch.ones(3)}, X)


def linear(params, x):
    return (params["w"] * x).sum().square()


TORCH_SCRIPTS_ITS_FORWARD_MODE = "ignore:.torch.jit.script. is deprecated"


@pytest.mark.filterwarnings(TORCH_SCRIPTS_ITS_FORWARD_MODE)
@pytest.mark.parametrize("engine", ["auto", "factored", "dense"])
@pytest.mark.parametrize("around", ["vmap", "grad", "jvp"])
def test_steps_inside_a_transform(engine, around):
    clip, noise = dp.Clip(1.0), dp.GaussianNoise(1.0, key=dp.key(1))
    private = dp.PrivateGrad(linear, clip=clip, noise=noise, expected_batch_size=2, engine=engine)
    state = private.init({"w": X[0]})
    raised = pytest.raises(RuntimeError, match=f"^PrivateGrad.update: .* but got '{around}'.*loop")

    def step(w):
        return private.update({"w": w}, X, state)[0]["w"].sum()

    with raised:
        within(around, step)


@pytest.mark.filterwarnings(TORCH_SCRIPTS_ITS_FORWARD_MODE)
@pytest.mark.parametrize("around", ["vmap", "grad", "jvp"])
@pytest.mark.parametrize("whole", [False, True])
def test_factored_gradients_inside_a_transform(around, whole):
    loss = dp.batched(lambda params, x: (x @ params["w"]).square()) if whole else linear
    name = "batched" if whole else "factored_grad"

    def norms(w):
        grads, _ = dp.factored_grad(loss)({"w": w}, X)
        return grads["w"].norm_sq().sum()

    with pytest.raises(RuntimeError, match=f"^{name}: .* but got '{around}'.*per_sample_grad"):
        within(around, norms)


def within(around, function):
    """``function`` of one vector, under a transform."""
    if around == "jvp":
        return torch.func.jvp(function, (X[0],), (X[1],))
    if around == "grad":
        return torch.func.grad(function)(X[0])
    return torch.func.vmap(function, randomness="different")(X)
