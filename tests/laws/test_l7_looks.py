"""L7 for looks: when, how often and how finely a loss of the whole batch is looked at.

What the documentation says of `batched` and of `PrivacyEngine`: at first, after 1, 2, 4, 8, ...
batches; up to three samples one by one; and differences beyond rounding are refused.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.persample.whole_batch import parts, verify
from dpfunc.persample.whole_batch.order import _PICKED
from tests.laws.losses import each_told_apart

REFUSED = r"alone as in a batch|held for others|keeps its samples apart|of one term for each"


def numbers(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


class Mixing:
    """Adds a share of the mean of the batch, once it is on."""

    def __init__(self, share: float = 1.0) -> None:
        self.on, self.share = False, share

    def __call__(self, values: Tensor) -> Tensor:
        return values + self.share * values.detach().mean(0, keepdim=True) if self.on else values


def by_batched(mixing: Mixing):
    """Take a batch through a loss of the whole batch."""
    loss = dp.batched(lambda p, x: each_told_apart(mixing(x @ p["w"])))
    params = {"w": numbers(1, 4, 3)}
    return lambda number: dp.factored_grad(loss)(params, numbers(number + 2, 6, 4))


class Network(nn.Module):
    def __init__(self, mixing: Mixing) -> None:
        super().__init__()
        self.layer, self.mixing = nn.Linear(4, 3).double(), mixing

    def forward(self, x: Tensor) -> Tensor:
        return self.mixing(self.layer(x))


def by_engine(mixing: Mixing, *, in_loss: bool):
    """Take a batch through a loop with an engine; the mixing is in the model or in the loss.

    A loss does the same in every batch, and mixes where a record is large.
    """
    model, x = Network(Mixing() if in_loss else mixing), numbers(1, 6, 4)
    data = TensorDataset(x, torch.arange(6) % 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    engine = dp.PrivacyEngine(
        model, sample_size=6, batch_size=6, delta=1e-3, key=dp.key(5), max_grad_norm=1.0,
        noise_multiplier=1.0,
    ).attach(optimizer)  # fmt: skip

    def step(_: int) -> None:
        x[0, 0] = 30.0 if mixing.on else 0.3
        for batch, y in engine.loader(data):
            outputs = model(batch)
            if in_loss:
                gate = (batch[:, 0].amax() > 20).to(outputs.dtype)
                outputs = outputs * (1 + gate * outputs.mean())
            F.cross_entropy(outputs, y).backward()
            optimizer.step()

    return step


WAYS = {
    "batched": by_batched,
    "engine, model": lambda mixing: by_engine(mixing, in_loss=False),
}


def up_to_twice(begins: int, mixing: Mixing, take) -> None:
    for number in range(1, 2 * begins + 1):
        mixing.on = number >= begins
        take(number)


@pytest.mark.parametrize("begins", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("way", WAYS)
def test_what_begins_at_a_batch_is_refused_by_twice_that(way, begins):
    mixing = Mixing()
    with pytest.raises(RuntimeError, match=REFUSED):
        up_to_twice(begins, mixing, WAYS[way](mixing))
    assert mixing.on


@pytest.mark.parametrize("begins", [1, 2, 3, 5])
def test_what_begins_in_the_loss_of_a_loop_is_refused_by_twice_that(begins):
    mixing = Mixing()
    with pytest.raises(RuntimeError, match=REFUSED):
        up_to_twice(begins, mixing, by_engine(mixing, in_loss=True))
    assert mixing.on


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mixing_of_ten_times_the_tolerance_is_refused_and_rounding_is_not(dtype):
    """Gradients count as equal up to the square root of the rounding unit of their dtype."""
    relative = math.sqrt(torch.finfo(dtype).eps)
    params, x = {"w": numbers(1, 6, 3).to(dtype)}, numbers(2, 5, 6).to(dtype)

    def mixing(p, x):  # of one sample alone it is nothing
        y = (x @ p["w"]).float().sum(1)
        return y * (1.0 + 10 * relative * (len(x) > 1))

    dp.factored_grad(dp.batched(lambda p, x: (x @ p["w"]).float().sum(1)))(params, x)
    with pytest.raises(RuntimeError, match=REFUSED):
        dp.factored_grad(dp.batched(mixing))(params, x)


@pytest.mark.parametrize("randomness", ["error", "different"])
def test_what_shows_in_one_sample_of_sixty_is_found_once_in_twenty_looks(monkeypatch, randomness):
    """Three samples of a batch are taken at random: the last one no less often than others."""
    seeds = itertools.count()
    for module in (verify, parts):
        monkeypatch.setattr(module, "key", lambda: dp.key(next(seeds)))
    x, params, looks = numbers(2, 60, 3), {"w": numbers(1, 3)}, 120
    mark = torch.arange(60) == 59

    def loss_fn(p, x, mark):  # alone it is half as large; its gradient is its own
        return (x @ p["w"]) * torch.where(mark, 1.0 + (len(x) > 1), 1.0)

    def found() -> bool:
        try:
            dp.factored_grad(dp.batched(loss_fn), randomness=randomness)(params, x, mark)
        except RuntimeError:
            return True
        return False

    assert 2 <= sum(found() for _ in range(looks)) <= 12  # 6 on average


def spellings() -> list[tuple[str, object]]:
    """All that PyTorch's name spaces call what moves samples by an index along an axis."""
    names = ("gather", "index_add", "index_copy", "index_select", "scatter", "scatter_add")
    names += ("take_along_dim", "index_reduce", "scatter_reduce", "index_put", "__getitem__")
    names += ("put", "take")
    return [
        (f"{place.__name__}.{name}{mark}", getattr(place, name + mark))
        for place in (torch, Tensor)
        for name in names
        for mark in ("", "_")
        if hasattr(place, name + mark)
    ]


OTHERS = [
    ("F.embedding", lambda x, order: F.embedding(order, x)),
    ("a list", lambda x, order: x[order.tolist()]),
    ("NumPy", lambda x, order: x[order.numpy()]),
    ("NumPy, beside others", lambda x, order: x[order.numpy(), :, None][..., 0]),
]


def moved(function, name: str, x: Tensor, order: Tensor) -> Tensor:
    """``x [B, 3]`` with its rows in another order, by this function."""
    if (name, function) in OTHERS:
        return function(x, order)
    kind, whole = name.split(".")[1].rstrip("_"), order[:, None].expand(-1, x.shape[1])
    if name.endswith("__getitem__"):
        return function(x, order)
    if kind == "index_select":
        return function(x, 0, order)
    if kind in ("gather", "take_along_dim"):
        return function(x, whole, 0) if kind == "take_along_dim" else function(x, 0, whole)
    into = torch.zeros_like(x)
    if kind == "index_put":
        return function(into, (order,), x)
    if kind in ("take", "put"):
        places = whole * x.shape[1] + torch.arange(x.shape[1])
        return function(x, places) if kind == "take" else function(into, places, x)
    if kind in ("index_add", "index_copy"):
        return function(into, 0, order, x)
    if kind == "index_reduce":
        return function(into, 0, order, x, "amax", include_self=False)
    if kind == "scatter_reduce":
        return function(into, 0, whole, x, "sum")
    return function(into, 0, whole, x)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize(
    ("name", "function"), [pytest.param(*s, id=s[0]) for s in [*spellings(), *OTHERS]]
)
def test_every_spelling_that_moves_samples_is_refused_in_the_batch_where_it_does(name, function):
    """There and back again, so that losses are right. In order at first, being all of one length;
    in the fourth batch, at which no samples are looked at, one in the middle comes first."""

    def loss_fn(p, x, length):
        order = length.argsort(descending=True, stable=True)
        sorted_losses = F.linear(moved(function, name, x, order), p["w"])
        return moved(function, name, sorted_losses, order.argsort()).sum(1) + x @ p["v"]

    loss, params = dp.batched(loss_fn), {"w": numbers(1, 3, 3), "v": numbers(4, 3)}
    x, length = numbers(2, 12, 3), torch.full((12,), 7)
    for _ in range(3):
        dp.factored_grad(loss)(params, x, length)
    length[5] = 8
    with pytest.raises(RuntimeError, match="to leave the samples in their order"):
        dp.factored_grad(loss)(params, x, length)


SOME = {"Tensor.__getitem__", "torch.index_select", "Tensor.scatter_", "Tensor.index_put_", "NumPy"}


class Sorting(nn.Module):
    """Longest first and back again, by one of the spellings; the first column is the length."""

    def __init__(self, name: str, function) -> None:
        super().__init__()
        self.layer, self.way = nn.Linear(3, 3).double(), (function, name)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort(descending=True, stable=True)
        outputs = self.layer(moved(*self.way, x, order))
        return moved(*self.way, outputs, order.argsort()) + self.layer(x)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize(
    ("name", "function"),
    [
        pytest.param(*way, id=way[0], marks=[] if way[0] in SOME else pytest.mark.nightly)
        for way in [*spellings(), *OTHERS]
    ],
)
def test_every_spelling_is_refused_in_a_loop_too(name, function):
    model, x = Sorting(name, function), numbers(2, 6, 3)
    x[:, 0] = 7.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    engine = dp.PrivacyEngine(
        model, sample_size=6, batch_size=6, delta=1e-3, key=dp.key(5), max_grad_norm=1.0,
        noise_multiplier=1.0,
    ).attach(optimizer)  # fmt: skip

    def step() -> None:
        for batch, y in engine.loader(TensorDataset(x, torch.arange(6) % 3)):
            F.cross_entropy(model(batch), y).backward()
            optimizer.step()

    for _ in range(3):
        step()
    x[3, 0] = 8.0
    with pytest.raises(RuntimeError, match="to leave the samples in their order"):
        step()
    assert engine.steps_taken == 3


def test_every_function_that_is_looked_at_is_spelt_there():
    spelt = {function for _, function in spellings()}
    assert {f for f in _PICKED if f not in spelt} == {Tensor.__setitem__, F.embedding}
