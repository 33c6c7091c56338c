"""A small run on shards, the same on any number of processes: for the tests of this folder."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dpfunc as dp

SIZE, SHARDS, RATE = 96, 12, 0.3
KEY = dp.key(11)  # a test: a real run has a secret one


class LearningClip:
    """A clip rule that learns its bound from the norms of all samples, in their order."""

    query_multiplier = math.inf  # a lie, where nothing is accounted

    def init(self):
        return {"max_norm": torch.tensor(0.5, dtype=torch.float64)}

    def weights(self, norms, state):
        return dp.Clip(float(state["max_norm"])).weights(norms, {})

    def update(self, norms, mask, state):
        norm = dp.global_norm(norms)[mask].double()
        places = torch.arange(1, len(norm) + 1, dtype=torch.float64)
        return {"max_norm": (state["max_norm"] + (norm * places).sum()) / (1 + places.sum())}


class Words(nn.Module):
    """Embedding, positions, a tied head: tokens in, logits out."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.mix = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, ids):
        hidden = self.norm(torch.tanh(self.mix(self.table(ids)))).mean(1)
        return hidden @ self.table.weight.T


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,), 3),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 3)),
        (1, 6, 6),
        3,
    ),
    "tied words": (Words, (5,), 12),
}
CLIPS = {
    "Clip": dp.Clip(0.5),
    "AutoClip": dp.AutoClip(0.5),
    "ClipPerLayer": dp.ClipPerLayer(0.5),
    "one that learns": LearningClip(),
}


def problem(name="mlp"):
    """A model, its parameters, its loss of one sample, and all data."""
    make, shape, classes = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    params = {n: p.clone() for n, p in dp.named_params(model).items()}
    if name == "tied words":
        x = (dp.uniform(dp.key(1), (SIZE, *shape)) * 12).long()
    else:
        x = dp.normal(dp.key(1), (SIZE, *shape))
    y = torch.arange(SIZE) % classes

    def loss_fn(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])

    return model, params, loss_fn, (x, y)


def private_for(loss_fn, clip="Clip", *, sigma=1.0, key=KEY, **options):
    noise = dp.GaussianNoise(sigma, key=key)
    options = {"expected_batch_size": SIZE * RATE, **options}
    return dp.PrivateGrad(loss_fn, clip=CLIPS[clip], noise=noise, **options)


def train(steps=2, rate=RATE, *, model="mlp", clip="Clip", shards=SHARDS, **options):
    """All releases of a run, its last parameters and state, and the sizes of the own shards."""
    _, params, loss_fn, (x, y) = problem(model)
    parallel = dp.distributed.DataParallel(private_for(loss_fn, clip, **options), shards=shards)
    state, releases, sizes = parallel.init(params), [], []
    for step in range(steps):
        drawn = parallel.batches(KEY, step, size=SIZE, rate=rate)
        sizes.append([len(i) for i in drawn])
        grads, state, aux = parallel.update(params, [(x[i], y[i]) for i in drawn], state)
        assert len(aux.losses) == len(aux.norms) == sum(sizes[-1])
        params = {name: param - 0.5 * grads[name] for name, param in params.items()}
        releases.append(grads)
    return {"releases": releases, "params": params, "state": state, "sizes": sizes}


def some(cases, world):
    """Of the numbers of cases: the first for every ``world``, the others for one of 2, 3, 4."""
    return [number for number in range(len(cases)) if number == 0 or number % 3 == world - 2]


def flat(tensors):
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def bits(run):
    """All numbers of a run, as one tensor."""
    return torch.cat([flat(grads) for grads in [*run["releases"], run["params"]]])
