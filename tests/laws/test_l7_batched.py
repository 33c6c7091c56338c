"""`batched`: losses of the whole batch, exact against batches of one, or refused by name."""

from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import dpfunc as dp
from dpfunc.persample.batches.batch import take
from dpfunc.persample.definition.dense import loss_and_grad
from dpfunc.persample.factors import outer
from dpfunc.persample.factors.outer import Outer
from dpfunc.persample.factors.scatter import Scatter
from tests.laws.losses import each_told_apart as each


def draw(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


def assert_exact(loss_fn, params, *batch):
    """Factored and dense equal batches of one; the forms that the engine chose."""
    loss = dp.batched(loss_fn)
    size = len(batch[0])
    alone = [loss_and_grad(loss, params, take(batch, slice(i, i + 1))) for i in range(size)]
    factored, losses = dp.factored_grad(loss)(params, *batch)
    dense, dense_losses = dp.per_sample_grad_and_loss(loss)(params, *batch)
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(losses, torch.stack([value for value, _ in alone]), **close)
    torch.testing.assert_close(dense_losses, losses, **close)
    weights = torch.linspace(0.5, 1.5, size, dtype=torch.float64)
    for name in params:
        rows = torch.stack([grads[name] for _, grads in alone])
        torch.testing.assert_close(factored[name].dense(), rows, **close)
        torch.testing.assert_close(dense[name], rows, **close)
        norm_sq = rows.flatten(1).square().sum(1)
        torch.testing.assert_close(factored[name].norm_sq(), norm_sq, **close)
        summed = torch.einsum("b,b...->...", weights, rows)
        torch.testing.assert_close(factored[name].weighted_sum(weights), summed, **close)
    return {name: type(factor) for name, factor in factored.items()}


def of_module(module):
    return lambda params, *batch: each(functional_call(module, params, batch))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_layers_with_and_without_rules(size):
    model = nn.Sequential(
        nn.Linear(6, 4), nn.LayerNorm(4), nn.ReLU(inplace=True), nn.Linear(4, 3), nn.PReLU(3)
    ).double()
    assert_exact(of_module(model), dp.named_params(model), draw(1, size, 6))


def test_positions_merged_into_the_batch_axis():
    layer = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()

    def loss_fn(params, x):
        out = functional_call(layer, params, (x.view(-1, 6),))
        return each(torch.addmm(params["b"], out, params["w"]).view(*x.shape[:2], 2))

    params = {**dp.named_params(layer), "w": draw(2, 3, 2), "b": draw(3, 2)}
    with mock.patch.object(outer, "prefers_gram", return_value=True):
        forms = assert_exact(loss_fn, params, draw(1, 3, 5, 6))
    assert forms["w"] is Outer


@pytest.mark.parametrize("size", [2, 5, 7])  # 5: as many samples as positions
@pytest.mark.parametrize("lead", [(), (1,)])
def test_positions_of_an_arange(lead, size):
    tokens, table = nn.Embedding(11, 4).double(), nn.Embedding(9, 4).double()

    def loss_fn(params, index):
        x = F.embedding(index, params["tokens"])
        x = x + F.embedding(torch.arange(5).view(*lead, 5), params["positions"])
        return each(x @ params["tokens"].T)

    params = {"tokens": tokens.weight.detach(), "positions": table.weight.detach()}
    forms = assert_exact(loss_fn, params, (torch.arange(size * 5).view(size, 5) * 7) % 11)
    assert forms["positions"] is Scatter


def test_samples_are_not_mistaken_for_positions_after_the_first_use():
    """Learned on other batch sizes, where no axis was of the length of the batch."""
    table = draw(1, 9, 4)
    loss = dp.batched(lambda p, x: each(x + F.embedding(torch.arange(5), p["table"])))
    for size in (2, 5, 1, 3):
        x = draw(size, size, 5, 4)
        rows = dp.factored_grad(loss)({"table": table}, x)[0]["table"].dense()
        for i in range(size):
            expected = loss_and_grad(loss, {"table": table}, (x[i : i + 1],))[1]["table"]
            torch.testing.assert_close(rows[i], expected)


def test_a_class_token_and_a_bias_of_positions():
    def loss_fn(params, x):
        size = x.shape[0]
        token = params["token"].expand(size, -1, -1)
        again = params["again"].repeat(size, 2, 1)
        x = torch.cat([token, x, again], 1) + params["position"]
        bias = F.embedding(torch.arange(36).view(6, 6) % 3, params["table"])  # [6, 6, heads]
        scores = (x @ x.mT)[:, None] + bias.permute(2, 0, 1).unsqueeze(0)
        return each(scores.softmax(-1) @ x[:, None])

    params = {
        "token": draw(1, 1, 1, 4),
        "again": draw(2, 1, 1, 4),
        "position": draw(3, 1, 6, 4),
        "table": draw(4, 3, 2),
    }
    assert_exact(loss_fn, params, draw(5, 3, 3, 4))


def test_what_is_made_of_parameters_alone():
    """A norm's ``1 + weight``, a matrix turned, cut and multiplied before it meets the data."""

    def loss_fn(params, x):
        y = F.rms_norm(x, (4,)) * (1.0 + params["scale"].float().double())
        matrix = params["left"].T[:4] @ params["right"]
        return each(y @ matrix + params["shift"][None, None] * 2)

    params = {
        "scale": draw(1, 4),
        "left": draw(2, 3, 5),
        "right": draw(3, 3, 2),
        "shift": draw(4, 2),
    }
    assert_exact(loss_fn, params, draw(5, 3, 6, 4))


def test_axes_other_than_the_first():
    def loss_fn(params, x):
        turned = x.transpose(0, 1)  # [T, B, d]
        y = F.linear(turned, params["w"]) + params["b"]
        columns = params["v"] @ y.flatten(0, 1).T if False else y
        return each((columns * params["b"]).transpose(0, 1)) + (params["v"] @ x[:, 0].T).sum(0)

    params = {"w": draw(1, 3, 4), "b": draw(2, 3), "v": draw(3, 2, 4)}
    assert_exact(loss_fn, params, draw(4, 3, 5, 4))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 6)),
        (nn.ConvTranspose1d(2, 3, 3), (2, 6)),
        (nn.GroupNorm(2, 4), (4, 6)),
        (nn.Bilinear(6, 6, 2), (5, 6)),
        (nn.BatchNorm1d(4).eval(), (4, 6)),
        (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (5, 8)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules(layer, shape):
    layer = layer.double()
    batch = (draw(1, 3, *shape),) * (2 if isinstance(layer, nn.Bilinear) else 1)
    assert_exact(of_module(layer), dp.named_params(layer), *batch)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, partial(nn.LSTM, proj_size=2), nn.GRU, nn.RNN])
@pytest.mark.parametrize("parametrized", [True, False])
def test_recurrent_layers(kind, parametrized, batch_first):
    layer = kind(3, 4, 2, bidirectional=True, batch_first=batch_first).double()
    if parametrized:
        nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", nn.Tanh())

    def loss_fn(params, x):
        output, last = functional_call(layer, params, (x if batch_first else x.transpose(0, 1),))
        last = last[0] if isinstance(last, tuple) else last
        return each(output if batch_first else output.transpose(0, 1)) + each(last.transpose(0, 1))

    assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, 5, 3))


def test_python_that_depends_on_the_data():
    """Not possible under vmap. The mask of the whole batch takes another branch than its parts."""

    def loss_fn(params, x, mask):
        y = x @ params["w"] * params["scale"]
        if not mask.all():  # one more operation on a parameter, which changes nothing
            y = y.masked_fill(~mask[..., None], 0.0) + 0.0 * params["scale"]
        return each(y)

    params = {"w": draw(1, 4, 3), "scale": draw(3, 3)}
    x, mask = draw(2, 5, 6, 4), torch.ones(5, 6, dtype=torch.bool)
    loss = dp.batched(loss_fn)
    dp.factored_grad(loss)(params, x, mask)
    mask[4, 2:] = False  # past the samples that were looked at
    grads = dp.factored_grad(loss)(params, x, mask)[0]
    for i in range(4):
        expected = loss_and_grad(loss, params, (x[i : i + 1], mask[i : i + 1]))[1]["w"]
        torch.testing.assert_close(grads["w"].dense()[i], expected)
    with pytest.raises(RuntimeError, match="vmap"):
        dp.factored_grad(lambda p, x, m: loss_fn(p, x[None], m[None])[0])(params, x, mask)


@pytest.mark.parametrize("engine", ["factored", "dense"])
def test_a_private_step(engine):
    model = nn.Linear(4, 3).double()
    private = dp.PrivateGrad(
        dp.batched(of_module(model)),
        clip=dp.Clip(0.7),
        noise=dp.GaussianNoise(0.0, key=dp.key()),
        expected_batch_size=4,
        engine=engine,
        microbatch_size=2,
    )
    single = dp.PrivateGrad(
        lambda params, x: of_module(model)(params, x[None])[0],
        clip=dp.Clip(0.7),
        noise=dp.GaussianNoise(0.0, key=dp.key()),
        expected_batch_size=4,
    )
    params = dp.named_params(model)
    for size in (3, 0, 1):
        x = draw(1, size, 4)
        grads = private.update(params, x, private.init(params))[0]
        expected = single.update(params, x, single.init(params))[0]
        torch.testing.assert_close(grads, expected)


def mixing(name):
    def token_mean(params, x):
        return each(x @ params["w"]) / (x[..., 0] > 0).sum()

    def centred(params, x):
        return each((x - x.mean(0)) @ params["w"])

    def normed(params, x):
        return each(F.batch_norm((x @ params["w"]).mT, None, None, training=True))

    def neighbours(params, x):
        return each(x.roll(1, 0) @ params["w"])

    def branching(params, x):  # whether w is squared depends on all samples
        return each(x @ params["w"] ** (2 if (x.sum((1, 2)) > 0).any() else 1))

    def turned(params, x):  # positions before samples in one axis
        y = x.transpose(0, 1).reshape(-1, 4) @ params["w"]
        return each(y.view(x.shape[1], x.shape[0], 3).transpose(0, 1))

    return locals()[name]


@pytest.mark.parametrize(
    "name", ["token_mean", "centred", "normed", "neighbours", "branching", "turned"]
)
def test_a_loss_that_mixes_samples_is_refused(name):
    x = draw(2, 5, 4).abs()
    batch = torch.stack([x, -x.cos()])
    with pytest.raises(RuntimeError, match=r"the same loss and gradient alone|held for others"):
        dp.factored_grad(dp.batched(mixing(name)))({"w": draw(1, 4, 3)}, batch)


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda p, x: each((x @ p["w"]) @ (x @ p["w"]).T * p["v"]), "may not compare samples"),
        (lambda p, x: each(x @ p["w"].mul_(2.0)), "in mul_, but it uses a parameter in place"),
        (lambda p, x: (x @ p["w"]).sum() + p["v"].sum().expand(len(x)), "to have the same loss"),
        (lambda p, x: (x @ p["w"]).sum(), "losses of . samples"),
        (lambda p, x: each(F.dropout(x @ p["w"])), "randomness error mode"),
        (lambda p, x: each(torch.randn_like(x) @ p["w"]), "randomness error mode"),
    ],
)  # fmt: skip
def test_refusals(loss_fn, message):
    params = {"w": draw(1, 4, 3), "v": draw(2, 1, 1)}
    with pytest.raises((RuntimeError, ValueError), match=message):
        dp.factored_grad(dp.batched(loss_fn))(params, draw(2, 4, 4))


def compared(values: Tensor, params) -> Tensor:
    return (values @ values.T) * params["scale"].exp()  # [B, B]


def test_samples_that_are_compared_beside_the_loss():
    """A model may return what no loss of a sample can use."""

    def loss_fn(params, x):
        y = x @ params["w"]
        compared(y, params).softmax(-1)
        return each(y) * params["scale"]

    assert_exact(loss_fn, {"w": draw(1, 4, 3), "scale": draw(2, 1)}, draw(3, 5, 4))


@pytest.mark.parametrize("of", [lambda x, y: y, lambda x, y: x], ids=["activations", "data"])
def test_samples_that_are_compared_in_the_loss_are_refused(of):
    """Even each with itself alone, where the losses do not depend on other samples."""

    def loss_fn(params, x):
        y = x @ params["w"]
        return each(y) + compared(of(x, y), params).diagonal()

    with pytest.raises(RuntimeError, match="a loss may not compare samples"):
        dp.factored_grad(dp.batched(loss_fn))(
            {"w": draw(1, 4, 3), "scale": draw(2, 1)}, draw(3, 5, 4)
        )


def test_a_parameter_written_where_there_are_no_samples_is_refused():
    def loss_fn(params, x):
        table = torch.zeros(6, 3, dtype=x.dtype)
        table[torch.arange(6) > 2] = params["w"]
        return each(x @ table)

    with pytest.raises(RuntimeError, match="the same for all samples"):
        dp.factored_grad(dp.batched(loss_fn))({"w": draw(1, 3)}, draw(2, 4, 6))


def test_dropout_when_asked_for():
    loss = dp.batched(lambda p, x: F.dropout(x, 0.5) @ p["w"])
    grads, _ = dp.factored_grad(loss, randomness="different")(
        {"w": torch.ones(200)}, torch.ones(3, 200)
    )
    rows = grads["w"].dense()
    assert set(rows.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(rows[0], rows[1])


def test_a_batch_of_none():
    grads, losses = dp.factored_grad(dp.batched(lambda p, x: x @ p["w"]))(
        {"w": torch.ones(4)}, torch.ones(0, 4)
    )
    assert grads["w"].dense().shape == (0, 4)
    assert losses.shape == (0,)


def test_no_function():
    with pytest.raises(TypeError, match="batched: expected a loss_fn"):
        dp.batched(3)


@pytest.mark.parametrize("whole_batch", [True, False])
def test_autocast_rounds_the_model_and_not_the_norms(whole_batch):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    params, x = dp.named_params(model), draw(1, 4, 6).float()

    def losses(params, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return each(functional_call(model, params, (x,)).float())

    loss = dp.batched(losses) if whole_batch else lambda p, x: losses(p, x[None])[0]
    grads = dp.factored_grad(loss)(params, x)[0]
    for name, rows in dp.per_sample_grad(dp.batched(losses))(params, x).items():
        norm_sq = grads[name].norm_sq()
        assert norm_sq.dtype == torch.float32
        torch.testing.assert_close(grads[name].dense().float(), rows, rtol=0.05, atol=0.05)
        own = grads[name].dense().float().flatten(1).square().sum(1)
        torch.testing.assert_close(norm_sq, own, rtol=1e-2, atol=1e-3)


def recomputed(function, *args):
    return checkpoint(function, *args, use_reentrant=False)


class Blocks(nn.Module):
    """Each block keeps its input alone. Its parameters are no arguments of it."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = recomputed(block, x)
            x = x[0] if isinstance(x, tuple) else x
        return x


@pytest.mark.parametrize("size", [4, 3])  # 3: as many samples as channels, 4: as features
@pytest.mark.parametrize(
    ("blocks", "shape"),
    [
        ([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))], (3, 4)),
        ([nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.ReLU())], (3, 4, 4)),
        ([nn.ConvTranspose1d(3, 4, 2), nn.PReLU(4), nn.Conv1d(4, 2, 2)], (3, 4)),
        ([nn.LSTM(4, 4, 2, batch_first=True), nn.GRU(4, 3, batch_first=True)], (3, 4)),
        ([nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)] * 2, (3, 4)),
        ([Blocks(nn.Conv1d(3, 3, 1), nn.Linear(4, 3)), nn.Linear(3, 3)], (3, 4)),
    ],
    ids=["linear", "convolution", "transposed", "recurrent", "tied attention", "nested"],
)
def test_activation_checkpointing(blocks, shape, size):
    model = Blocks(*blocks).double()
    assert_exact(of_module(model), dp.named_params(model), draw(1, size, *shape))


def test_activation_checkpointing_of_what_is_made_of_parameters_alone():
    """And of positions, which have no samples: a batch of 5 has as many."""

    def loss_fn(params, x):
        scale = torch.stack([params["s"], params["s"].exp()]).sum(0)

        def block(x, scale):
            places = F.embedding(torch.arange(5), params["t"])
            return (x + places) * scale * torch.stack([params["s"], params["s"]]).prod(0)

        return each(recomputed(block, recomputed(block, x, scale).sin(), scale))

    params = {"t": draw(1, 9, 4), "s": draw(2, 4)}
    for size in (5, 3):
        assert_exact(loss_fn, params, draw(3, size, 5, 4))


def test_activation_checkpointing_with_dropout_draws_the_same_masks_again():
    def losses(params, x, through):
        return each(through(lambda x: F.dropout(x @ params["w"], 0.5) @ params["v"].exp(), x))

    params, x = {"w": draw(1, 4, 6), "v": draw(2, 6, 3)}, draw(3, 5, 4)
    found = []
    for through in (recomputed, lambda function, x: function(x)):
        torch.manual_seed(3)
        loss = dp.batched(partial(losses, through=through))
        grads, _ = dp.factored_grad(loss, randomness="different")(params, x)
        found.append({name: grad.dense() for name, grad in grads.items()})
    torch.testing.assert_close(*found)


def test_activation_checkpointing_where_samples_may_be_positions_is_refused():
    """The parts begin alike: samples in one are positions in the other."""

    def loss_fn(params, x):
        places = F.embedding(torch.arange(5), params["t"])
        first = recomputed(lambda x: (x * params["s"]).sin(), x)
        return each(first + recomputed(lambda t: (t * params["s"]).sin(), places).sum(0))

    params = {"t": draw(1, 9, 4), "s": draw(2, 4)}
    assert_exact(loss_fn, params, draw(3, 3, 4))
    with pytest.raises(RuntimeError, match="samples could be on several axes"):
        dp.factored_grad(dp.batched(loss_fn))(params, draw(3, 5, 4))


def test_activation_checkpointing_of_a_module_with_other_parameters_is_refused():
    """It would run again with its own ones, and nobody would see."""
    model = Blocks(nn.Linear(4, 4), nn.Linear(4, 4))
    params = {name: 2 * param for name, param in dp.named_params(model).items()}
    with pytest.raises(RuntimeError, match="parameters of the loss when it runs again"):
        dp.factored_grad(dp.batched(of_module(model)))(params, draw(1, 3, 4).float())


def longest_first(params, x, length):
    """Every loss depends on its sample alone; on the way the samples are in another order."""
    order = length.argsort(descending=True, stable=True)
    sorted_output = F.linear(x[order], params["w"]).sum(-1)
    return sorted_output[order.argsort()] + x @ params["v"]


def test_an_index_that_moves_samples_in_a_later_batch():
    """Alike at first, so that nothing moves: the index is looked at in every batch."""
    params, loss = {"w": draw(2, 3, 3), "v": draw(3, 3)}, dp.batched(longest_first)
    length = torch.full((60,), 7)
    for _ in range(3):
        dp.factored_grad(loss)(params, draw(1, 60, 3), length)
    length[-1] = 8  # the last sample is the longest: it moves all others by one
    with pytest.raises(RuntimeError, match="leave the samples in their order"):
        dp.factored_grad(loss)(params, draw(1, 60, 3), length)


def test_samples_written_in_another_order():
    def loss_fn(params, x):
        y, z = torch.zeros_like(x), torch.zeros_like(x)
        order = x.sum(1).argsort()
        y[order] = x
        z.index_copy_(0, order.argsort(), y)
        return each(z @ params["w"])

    with pytest.raises(RuntimeError, match="expected __setitem__ to leave the samples"):
        dp.factored_grad(dp.batched(loss_fn))({"w": draw(1, 3, 2)}, draw(2, 4, 3))


@pytest.mark.parametrize(
    "pick",
    [
        lambda x, at: x[torch.arange(len(x)), at],
        lambda x, at: x[torch.arange(len(x))[:, None], at[:, None]].squeeze(1),
        lambda x, at: x.gather(1, at[:, None, None].expand(-1, 1, x.shape[2]))[:, 0],
        lambda x, at: x.flatten(0, 1)[torch.arange(len(x)) * x.shape[1] + at],
        lambda x, at: x.index_select(0, torch.arange(len(x)))[..., [0, 0, 1, 1], :][:, 1],
    ],
)
def test_an_index_that_leaves_each_sample_in_its_place(pick):
    assert_exact(lambda p, x, at: each(pick(x @ p["w"], at)), {"w": draw(1, 3, 2)},
                 draw(2, 4, 5, 3), torch.tensor([1, 0, 4, 2]))  # fmt: skip


def test_a_dependence_that_shows_in_the_next_batch():
    """The verification is repeated after 1, 2, 4, 8, ... batches."""
    loss = dp.batched(lambda p, x: each(x @ p["w"]) * x.sum().clamp(min=100.0))
    params, x = {"w": draw(1, 3, 2)}, draw(2, 4, 3)
    dp.factored_grad(loss)(params, x)
    with pytest.raises(RuntimeError, match="to have the same loss"):
        dp.factored_grad(loss)(params, x.abs() + 100.0)


def placed(x, order):
    return F.one_hot(order, len(order)).to(x.dtype)


REORDERINGS = {
    "stack": lambda x, order: torch.stack([x[int(i)] for i in order]),
    "cat": lambda x, order: torch.cat([x.split(1)[int(i)] for i in order]),
    "a permutation matrix": lambda x, order: placed(x, order) @ x,
    "einsum": lambda x, order: torch.einsum("ij,j...->i...", placed(x, order), x),
    "embedding": lambda x, order: F.embedding(order, x.reshape(len(x), -1)).reshape(x.shape),
    "an index of NumPy": lambda x, order: x[order.numpy()],
    "index_put": lambda x, order: torch.zeros_like(x).index_put((order.argsort(),), x),
}


@pytest.mark.parametrize("name", REORDERINGS)
def test_samples_reordered_by_data(name):
    """Largest first and back again, where all but the last one are in order."""
    reorder = REORDERINGS[name]

    def loss_fn(params, x):
        order = x[..., 0].reshape(-1).argsort(descending=True, stable=True)
        rows = x.reshape(-1, 3)
        sorted_losses = F.linear(reorder(rows, order), params["w"]).sum(-1)
        losses = reorder(sorted_losses, order.argsort())
        return (losses + rows @ params["v"]).reshape(x.shape[:-1])

    x = draw(5, 12, 3)
    x[:, 0] = torch.arange(12.0).flip(0)
    x[-1, 0] = 30.0
    params = {"w": draw(1, 3, 3), "v": draw(4, 3)}
    refused = "held for others|in their order|compare samples|to tell|alone as in a batch"
    for spoilt in (False, True):
        if spoilt:
            x[5, 1] = float("nan")
        with pytest.raises(RuntimeError, match=refused):
            dp.factored_grad(dp.batched(loss_fn))(params, x)


def test_samples_that_are_in_order_by_chance_are_looked_at_in_another():
    loss_fn = dp.batched(lambda p, x: torch.stack([x[int(i)] for i in x[:, 0].argsort()]) @ p["w"])
    with pytest.raises(RuntimeError, match="alone as in a batch"):
        dp.factored_grad(loss_fn)({"w": draw(1, 3)}, draw(2, 12, 3).sort(0).values)


def test_samples_that_are_moved_in_large_batches_alone():
    """No few samples show it, alone or together: the random combination of all of them does."""

    def loss_fn(params, x):
        order = list(range(len(x)))
        order = order if len(x) < 12 else order[::-1]
        turned = torch.stack([x[i] for i in order]) @ params["w"]
        back = torch.stack([turned[i] for i in order])
        return each(back) + x @ params["v"]

    params = {"w": draw(1, 3, 2), "v": draw(3, 3)}
    with pytest.raises(RuntimeError, match="held for others"):
        dp.factored_grad(dp.batched(loss_fn))(params, draw(2, 14, 3))


def test_samples_that_mix_beside_some_that_are_zero():
    x = torch.cat([torch.zeros(3, 5, 3, dtype=torch.float64), draw(2, 30, 5, 3)])
    loss_fn = dp.batched(lambda p, x: each(x @ p["w"]) + (x @ p["w"]).mean() ** 2)
    with pytest.raises(RuntimeError, match=r"alone as in a batch|held for others"):
        dp.factored_grad(loss_fn)({"w": draw(1, 3, 2)}, x)


def test_a_sample_without_a_finite_gradient_is_no_mixing():
    """Its other gradients are compared as they are: none of them is far off."""
    params = {"w": draw(2, 3, 3), "b": draw(3, 3)}
    loss = dp.batched(lambda params, x: (x @ params["w"] + params["b"]).sum(1))
    x = torch.full((2, 3), torch.nan, dtype=torch.float64)
    grads, losses = dp.factored_grad(loss)(params, x)
    assert losses.isnan().all()
    assert grads["w"].dense().isnan().all()
    torch.testing.assert_close(grads["b"].dense(), torch.ones(2, 3, dtype=torch.float64))


def rounded_by_the_size_of_the_batch(params, x):
    """In float32 a large number swallows what is added to it first; in float64 it does not."""
    large = 1e8 * x.detach()
    one = (large + 1) - large if len(x) == 1 else (large - large) + 1
    return each((params["w"] * x + one - 0.5).relu())


def test_what_rounding_switches_is_told_from_samples_that_mix():
    params, x = {"w": -torch.ones(4) / 9}, torch.linspace(0.5, 1.5, 12).reshape(3, 4)
    loss = dp.batched(rounded_by_the_size_of_the_batch)
    losses = dp.factored_grad(loss)(params, x)[1]
    torch.testing.assert_close(losses, rounded_by_the_size_of_the_batch(params, x))

    def mixing(params, x):
        return rounded_by_the_size_of_the_batch(params, x) + params["w"].sum() * x.mean()

    with pytest.raises(RuntimeError, match="to have the same loss and gradient alone"):
        dp.factored_grad(dp.batched(mixing))(params, x)
