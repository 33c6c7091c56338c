"""L7: factored = dense = a Python loop of B=1 backward passes, on every rule and every use."""

import copy
import gc
from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dpfunc as dp
from dpfunc.persample.factors import convolution, outer
from dpfunc.persample.factors.combine import Sum
from dpfunc.persample.factors.convolution import Convolution
from dpfunc.persample.factors.forms import Dense
from dpfunc.persample.factors.outer import Outer
from dpfunc.persample.factors.scatter import Scatter
from dpfunc.persample.factors.views import Viewed
from dpfunc.persample.recurrence import gru, lstm
from dpfunc.persample.rules import convolution as convolution_rules
from dpfunc.persample.watching.tap import Record
from dpfunc.types import Tensors
from tests.devices import DEVICES
from tests.laws.losses import each_told_apart, told_apart

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}


def draw(seed: int, *shape: int, dtype=torch.float64, device="cpu") -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64).to(device=device, dtype=dtype)


def looped(loss_fn, params: Tensors, batch) -> tuple[Tensors, Tensor]:
    rows, losses = [], []
    for sample in zip(*batch, strict=True):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        loss = loss_fn(leaves, *sample)
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        pairs = zip(params.values(), grads, strict=True)
        rows.append([torch.zeros_like(p) if g is None else g for p, g in pairs])
        losses.append(loss.detach())
    columns = (torch.stack(column) for column in zip(*rows, strict=True))
    return dict(zip(params, columns, strict=True)), torch.stack(losses)


def assert_exact(loss_fn, params: Tensors, *batch, dtype=torch.float64) -> dict[str, type]:
    """All three agree, in gradients, norms and weighted sums; the forms that the engine chose."""
    tolerance = TOLERANCE[dtype]
    close = {"rtol": tolerance, "atol": tolerance}
    expected, expected_losses = looped(loss_fn, params, batch)
    factored, losses = dp.factored_grad(loss_fn)(params, *batch)
    weights = torch.linspace(0.0, 1.5, len(losses), dtype=dtype, device=losses.device)
    torch.testing.assert_close(losses, expected_losses, **close)
    assert factored.keys() == params.keys()
    for name, rows in expected.items():
        factor = factored[name]
        flat = rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(1)
        torch.testing.assert_close(factor.dense(), rows, **close)
        norm_sq = factor.norm_sq()
        torch.testing.assert_close(
            norm_sq, flat.square().sum(1), rtol=20 * tolerance, atol=tolerance
        )
        summed = torch.einsum("b,b...->...", weights, rows)
        torch.testing.assert_close(factor.weighted_sum(weights), summed, **close)
        torch.testing.assert_close(factor.take(slice(0, 1)).dense(), rows[:1], **close)
    return {name: type(factor) for name, factor in factored.items()}


def of_module(module: nn.Module):
    """A loss of one sample: another weight for every output of the module."""

    def loss_fn(params, *sample):
        output = functional_call(module, params, tuple(part[None] for part in sample))
        output = output[0] if isinstance(output, tuple) else output
        return told_apart(output)

    return loss_fn


SMALL = st.integers(1, 4)

# With factors kept apart, whatever the shape.
as_outer = mock.patch.object(outer, "prefers_gram", new=mock.Mock(return_value=True))


@given(
    size=SMALL,
    positions=st.lists(SMALL, max_size=2),
    i=SMALL,
    o=SMALL,
    bias=st.booleans(),
    gram=st.booleans(),
)
def test_linear(size, positions, i, o, bias, gram):
    layer = nn.Linear(i, o, bias=bias).double()
    with mock.patch.object(outer, "prefers_gram", return_value=gram):
        forms = assert_exact(of_module(layer), dp.named_params(layer), draw(1, size, *positions, i))
    assert forms["weight"] is (Outer if gram else Dense)


@pytest.mark.parametrize("positions", [1, 2, 7, 40])
@pytest.mark.parametrize("width", [(3, 50), (50, 3), (20, 20)])
def test_linear_in_gram_and_in_formed_norms(positions, width):
    layer = nn.Linear(*width).double()
    assert_exact(of_module(layer), dp.named_params(layer), draw(1, 3, positions, width[0]))


@given(
    axes=st.integers(1, 3),
    size=SMALL,
    groups=st.integers(1, 2),
    channels=st.sampled_from([1, 2, 5]),
    out=st.integers(1, 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    transposed=st.booleans(),
    norm=st.sampled_from(["gram", "patches", "shifts", "groups"]),
)
@example(2, 2, 1, 2, 2, 3, 1, 1, 2, False, "shifts").via("a dilated kernel")
@example(2, 2, 1, 2, 2, 3, 2, 1, 1, True, "shifts").via("a step")
@example(2, 3, 2, 5, 2, 3, 2, 1, 2, False, "groups").via("groups of their own")
@example(2, 3, 2, 5, 2, 3, 2, 1, 2, True, "groups").via("and transposed")
def test_convolutions(
    axes, size, groups, channels, out, kernel, stride, padding, dilation, transposed, norm
):
    kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    if not transposed:
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = kinds[axes - 1](groups * channels, groups * out, kernel, **options).double()
    space = (6, 5, 5)[:axes]
    x = draw(1, size, groups * channels, *space)
    with (
        mock.patch.object(convolution, "prefers_pixel_gram", return_value=norm == "gram"),
        mock.patch.object(convolution, "prefers_shifts", return_value=norm == "shifts"),
        mock.patch.object(convolution, "prefers_groups", return_value=norm == "groups"),
        mock.patch.object(convolution_rules, "worth_forming", return_value=norm != "gram"),
    ):
        forms = assert_exact(of_module(layer), dp.named_params(layer), x)
    assert forms["weight"] is (Convolution if norm == "gram" else Dense)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (8, {"padding": 1}),
        (16, {"stride": 2, "padding": 2, "dilation": 2}),
        (8, {"groups": 4}),
        (3, {"stride": 2}),
    ],
)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_convolutions_of_float32_by_the_library(kind, channels, options, layout):
    """On a CPU oneDNN forms them, with the samples for groups of channels."""
    layer, x = kind(channels, 4 * channels, 3, **options).double(), draw(1, 5, channels, 9, 9)
    # In the usual layout: for x[i][None] in channels_last, PyTorch's float64 groups go wrong.
    expected = looped(of_module(layer), dp.named_params(layer), (x,))[0]["weight"]
    norms, close = expected.flatten(1).norm(dim=1), {"rtol": 1e-5, "atol": 1e-4}
    layer, x = layer.float().to(memory_format=layout), x.float().to(memory_format=layout)

    @dp.batched
    def whole(params, x):
        output = functional_call(layer, params, (x,))
        return each_told_apart(output)

    for loss in (of_module(layer), whole):
        grads, _ = dp.factored_grad(loss)(dp.named_params(layer), x)
        torch.testing.assert_close(grads["weight"].dense().double(), expected, **close)
        torch.testing.assert_close(grads["weight"].norm_sq().sqrt().double(), norms, **close)


@pytest.mark.parametrize("name", ["shifts", "gram", "formed", "dense"])
def test_convolutions_in_every_form(name):
    """By shape: shifted images, Gram matrices over patches, patches, and formed at once."""
    options, space, expected = {
        "shifts": ((20, 16, 3), (17, 16), Dense),
        "gram": ((40, 48, 3), (3, 3), Convolution),
        "formed": ((32, 40, 2), (5, 5), Convolution),
        "dense": ((2, 3, 3), (9, 9), Dense),
    }[name]
    layer = nn.Conv2d(*options, padding=1).double()
    forms = assert_exact(of_module(layer), dp.named_params(layer), draw(1, 3, options[0], *space))
    assert forms["weight"] is expected


@pytest.mark.parametrize("kernel", [(1, 4), (5, 2), (4, 6)], ids=str)
@pytest.mark.parametrize("form", ["prefers_pixel_gram", "prefers_shifts", "prefers_groups", ""])
def test_long_kernels_in_every_form(form, kernel):
    layer = nn.Conv2d(2, 3, kernel, stride=(1, 2), padding=2).double()
    with (
        mock.patch.object(convolution, "prefers_pixel_gram", return_value="gram" in form),
        mock.patch.object(convolution, "prefers_shifts", return_value="shifts" in form),
        mock.patch.object(convolution, "prefers_groups", return_value="groups" in form),
        mock.patch.object(convolution_rules, "worth_forming", return_value=False),
    ):
        assert_exact(of_module(layer), dp.named_params(layer), draw(1, 3, 2, 6, 7))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_convolution_padding_modes(padding, mode):
    layer = nn.Conv2d(2, 3, 3, padding=padding, padding_mode=mode, dilation=(1, 2)).double()
    assert_exact(of_module(layer), dp.named_params(layer), draw(1, 3, 2, 7, 7))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolution_padded_unevenly_is_exact_by_its_copy():
    layer = nn.Conv2d(2, 3, 2, padding="same").double()
    assert_exact(of_module(layer), dp.named_params(layer), draw(1, 3, 2, 5, 5))


def test_convolution_of_several_images_a_sample_and_of_one_without_its_axis():
    layer = nn.Conv2d(2, 3, 3).double()
    params, images = dp.named_params(layer), draw(1, 4, 5, 2, 6, 6)
    assert_exact(lambda p, x: told_apart(functional_call(layer, p, (x,))), params, images)
    assert_exact(lambda p, x: told_apart(functional_call(layer, p, (x[0],))), params, images)


@given(
    size=SMALL,
    shape=st.lists(SMALL, max_size=2),
    width=SMALL,
    padding_idx=st.sampled_from([None, 0, 3, -1]),
    seed=st.integers(0, 20),
)
def test_embedding(size, shape, width, padding_idx, seed):
    layer = nn.Embedding(5, width, padding_idx=padding_idx).double()
    index = (draw(seed, size, *shape) * 100).long() % 5
    forms = assert_exact(of_module(layer), dp.named_params(layer), index)
    assert forms["weight"] is Scatter


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm1d(4, affine=True),
        nn.PReLU(4),
        nn.Bilinear(6, 6, 2),
        nn.Embedding(5, 3, scale_grad_by_freq=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_are_exact_by_their_copies(layer):
    layer = layer.double()
    if isinstance(layer, nn.Embedding):
        batch = ((draw(1, 3, 4) * 100).long() % 5,)
    else:
        batch = (draw(1, 3, 4, 6),) * (2 if isinstance(layer, nn.Bilinear) else 1)
    assert_exact(of_module(layer), dp.named_params(layer), *batch)


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max", "weighted"])
def test_embedding_bags(mode, padding_idx):
    weighted, mode = mode == "weighted", "sum" if mode == "weighted" else mode
    params = {"w": draw(1, 7, 3), **({"s": draw(2, 2, 5)} if weighted else {})}
    index = torch.tensor([[[1, 2, 2, 6, 0], [2, 2, 2, 2, 2]], [[5, 5, 1, 6, 6], [0, 1, 2, 3, 4]]])

    def loss_fn(params, index):
        options = {"mode": mode, "padding_idx": padding_idx}
        if weighted:
            options["per_sample_weights"] = params["s"]
        return told_apart(F.embedding_bag(index, params["w"], **options))

    forms = assert_exact(loss_fn, params, index)
    assert forms["w"] is Scatter


@pytest.mark.parametrize(
    ("equation", "shapes", "is_outer"),
    [
        ("td,do->to", ((5, 4), (4, 3)), True),
        ("td,od->to", ((5, 4), (3, 4)), True),
        ("td,dhk->htk", ((5, 4), (4, 2, 3)), True),
        ("thk,hkd->td", ((5, 2, 3), (2, 3, 4)), True),
        ("tk,hdk->dht", ((5, 3), (2, 4, 3)), True),
        ("dt,od->ot", ((4, 5), (3, 4)), True),
        ("thk,hk->th", ((5, 2, 3), (2, 3)), False),
        ("td,do->t", ((5, 4), (4, 3)), False),
        ("td,do", ((5, 4), (4, 3)), False),
    ],
)
@pytest.mark.parametrize("flipped", [False, True])
@as_outer
def test_einsum(equation, shapes, is_outer, flipped):
    def loss_fn(params, x):
        first, _, rest = equation.partition(",")
        second, arrow, output = rest.partition("->")
        if flipped:
            return told_apart(torch.einsum(f"{second},{first}{arrow}{output}", params["w"], x))
        return told_apart(torch.einsum(equation, x, params["w"]))

    forms = assert_exact(loss_fn, {"w": draw(1, *shapes[1])}, draw(2, 3, *shapes[0]))
    assert (forms["w"] in (Viewed, Outer)) == is_outer


@pytest.mark.parametrize(
    ("view", "form"),
    [
        (lambda w: w.T, Outer),
        (lambda w: w.t().contiguous(), Viewed),
        (lambda w: torch.transpose(w, 0, 1).unsqueeze(0).squeeze(0), Viewed),
        (lambda w: w.mT.reshape(4, 6), Viewed),
        (lambda w: w.view(-1).view(4, 6), Viewed),
        (lambda w: w.permute(1, 0), Outer),
    ],
)
@as_outer
def test_views_of_a_parameter_stay_factors(view, form):
    assert_exact(
        lambda p, x: told_apart(x @ view(p["w"])) + (x @ p["w"].T).sum() + p["w"].sum(),
        {"w": draw(1, 6, 4)},
        draw(2, 3, 5, 4),
    )
    forms = assert_exact(
        lambda p, x: told_apart(x @ view(p["w"])), {"w": draw(1, 6, 4)}, draw(2, 3, 5, 4)
    )
    assert forms["w"] is form


def test_an_output_embedding_tied_by_a_transpose():
    def loss_fn(params, index):
        return (F.embedding(index, params["w"]).tanh() @ params["w"].T).logsumexp(-1).sum()

    index = torch.arange(15).reshape(3, 5) % 7
    assert assert_exact(loss_fn, {"w": draw(1, 7, 4)}, index)["w"] is Sum


@pytest.mark.parametrize("trained", ["both", "scale", "shift"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(6), (6,)),
        (nn.LayerNorm(6), (2, 5, 6)),
        (nn.LayerNorm((4, 6)), (3, 4, 6)),
        (nn.RMSNorm(6), (5, 6)),
        (nn.GroupNorm(2, 4), (4,)),
        (nn.GroupNorm(2, 4), (4, 3, 5)),
        (nn.BatchNorm2d(4).eval(), (4, 3, 5)),
        (nn.BatchNorm1d(4).eval(), (4,)),
    ],
    ids=str,
)
def test_norms(layer, shape, trained):
    layer = copy.deepcopy(layer).double()
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = draw(seed, *parameter.shape)
    for name, parameter in layer.named_parameters():
        frozen = {"scale": "bias", "shift": "weight"}.get(trained)
        parameter.requires_grad_(name != frozen or isinstance(layer, nn.RMSNorm))
    params = dp.named_params(layer)
    for buffer in layer.buffers():
        buffer.add_(0.3) if buffer.is_floating_point() else None
    forms = assert_exact(of_module(layer), params, draw(9, 3, *shape))
    assert set(forms.values()) == {Dense}
    notes = dp.explain(of_module(layer), params, draw(9, 3, *shape)).rows
    assert not any(row.fell_back for row in notes)


def test_a_norm_of_several_images_a_sample_with_in_place_use():
    layer = nn.GroupNorm(2, 4).double()

    def loss_fn(params, x):
        return told_apart(functional_call(layer, params, (x,)).relu_() + x)

    assert_exact(loss_fn, dp.named_params(layer), draw(9, 3, 5, 4, 2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "shared", "own", "bool"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 5, 4), (5, 4)])
def test_scaled_dot_product_attention(shape, mask, causal):
    if mask is not None and causal:
        return  # PyTorch takes one of the two
    length = shape[-2]
    masks = {
        "shared": lambda x: torch.ones(length, length, dtype=x.dtype).tril().log(),
        "own": lambda x: x[..., :1] * torch.ones(length, dtype=x.dtype),
        "bool": lambda x: torch.ones(length, length, dtype=torch.bool).tril(),
    }

    def loss_fn(params, x):
        q, k, v = x @ params["q"], x @ params["k"], x @ params["v"]
        attn_mask = None if mask is None else masks[mask](x)
        return told_apart(F.scaled_dot_product_attention(q, k, v, attn_mask, 0.0, causal))

    params = {name: draw(seed, 4, 4) for seed, name in enumerate("qkv")}
    assert_exact(loss_fn, params, draw(9, 3, *shape))


def test_attention_to_a_shared_memory_and_with_grouped_queries():
    """Keys of one batch entry for all, and two query heads to a key head."""

    def loss_fn(params, x):
        q, k = x @ params["q"], (x[:1] @ params["k"])[:, :2]
        attended = F.scaled_dot_product_attention(q, k, k.cos(), enable_gqa=True)
        return told_apart(attended)

    params = {name: draw(seed, 4, 4) for seed, name in enumerate("qk")}
    assert_exact(loss_fn, params, draw(9, 3, 2, 4, 5, 4))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masks", [(), ("attn",), ("padding",), ("attn", "padding")])
@pytest.mark.parametrize("kind", ["self", "cross", "separate", "bias_kv", "no batch axis"])
def test_multi_head_attention(kind, masks, need_weights):
    options = {"kdim": 6} if kind == "separate" else {}
    layer = nn.MultiheadAttention(
        8, 2, batch_first=True, add_bias_kv=kind == "bias_kv", **options
    ).double()
    attn_mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if "attn" in masks else None

    def loss_fn(params, x):
        x = x if kind == "no batch axis" else x[None]
        key = {"cross": x.flip(-2), "separate": x[..., :6]}.get(kind, x)
        value = x.cos() if kind in ("cross", "separate") else key
        padding = x[..., 0] > 0.9 if "padding" in masks else None
        keywords = {"attn_mask": attn_mask, "key_padding_mask": padding}
        output, weights = functional_call(
            layer, params, (x, key, value), {**keywords, "need_weights": need_weights}
        )
        return told_apart(output) + (0.0 if weights is None else told_apart(weights))

    assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, 5, 8).clamp(-1, 0.8))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("which", ["aaa", "aab", "aba", "abb", "abc"])
def test_attention_of_tensors_that_are_equal_in_every_way(which, bias, need_weights):
    """Query, key and value, of which several may be one tensor; or all, and differ in order."""
    layer = nn.MultiheadAttention(8, 2, bias=bias).double()  # which hands on what it is given

    def loss_fn(params, a, b, c):
        own = {"a": a[:, None], "b": b[:, None], "c": c[:, None]}
        query, key, value = (own[name] for name in which)
        output, weights = functional_call(
            layer, params, (query, key, value), {"need_weights": need_weights}
        )
        return told_apart(output) + (0.0 if weights is None else told_apart(weights))

    assert_exact(loss_fn, dp.named_params(layer), *(draw(seed, 3, 5, 8) for seed in range(3)))


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers(norm_first):
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    encoder = nn.TransformerEncoderLayer(8, 2, 16, **options).double()
    decoder = nn.TransformerDecoderLayer(8, 2, 16, **options).double()
    forms = assert_exact(of_module(encoder), dp.named_params(encoder), draw(1, 3, 5, 8))
    assert forms["self_attn.in_proj_weight"] is Outer
    assert_exact(of_module(decoder), dp.named_params(decoder), draw(1, 3, 5, 8), draw(2, 3, 4, 8))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "RNN relu"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"batch_first": True}], ids=str)
def test_recurrent_layers(kind, layers, bidirectional, options):
    more = {"nonlinearity": "relu"} if kind == "RNN relu" else {}
    layer = getattr(nn, kind.split()[0])(
        3, 4, layers, bidirectional=bidirectional, **options, **more
    )
    layer = layer.double()

    def loss_fn(params, x):
        output, last = functional_call(layer, params, (x,))
        last = last if isinstance(last, tuple) else (last,)
        return told_apart(output) + sum(map(told_apart, last))

    shape = (2, 5, 3) if options.get("batch_first") else (5, 2, 3)
    with mock.patch.object(outer, "prefers_gram", return_value=True):
        forms = assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, *shape))
    assert forms["weight_hh_l0"] is Outer
    forms = assert_exact(loss_fn, dp.named_params(layer), draw(2, 3, 5, 3))  # no axis N
    assert forms["weight_hh_l0"] is Dense


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_from_a_learned_state_and_with_frozen_weights(kind):
    layer = kind(3, 4).double()
    layer.weight_hh_l0.requires_grad_(False)

    def loss_fn(params, x):
        own = {name: value for name, value in params.items() if name != "start"}
        start = params["start"][None]
        start = (start, start * x.mean()) if kind is nn.LSTM else start
        return told_apart(functional_call(layer, own, (x, start))[0])

    params = {**dp.named_params(layer), "start": draw(5, 4)}
    assert_exact(loss_fn, params, draw(1, 3, 5, 3))


def of_layer(layer: nn.Module):
    """A loss that tells the outputs and all last states apart, and each step from the others."""

    def loss_fn(params, x, *state):
        output, last = functional_call(layer, params, (x, *state))
        last = last if isinstance(last, tuple) else (last,)
        return told_apart(output) + sum(map(told_apart, last))

    return loss_fn


RECURRENT = {
    "LSTM": nn.LSTM,
    "LSTM with projections": partial(nn.LSTM, proj_size=2),
    "GRU": nn.GRU,
    "RNN": nn.RNN,
    "RNN relu": partial(nn.RNN, nonlinearity="relu"),
}


@given(
    kind=st.sampled_from(sorted(RECURRENT)),
    size=SMALL,
    steps=st.integers(1, 6),
    sequences=SMALL,
    width=SMALL,
    state=st.integers(3, 5),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    at_once=st.integers(1, 3),
    formed=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60)
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch's own, of its speed
def test_recurrent_layers_of_any_shape(
    kind, size, steps, sequences, width, state, layers, bidirectional, bias, at_once, formed, dtype
):
    layer = RECURRENT[kind](width, state, layers, bias=bias, bidirectional=bidirectional).to(dtype)
    with (
        mock.patch.object(outer, "prefers_gram", return_value=not formed),
        mock.patch.object(lstm, "steps_at_once", return_value=at_once),
        mock.patch.object(gru, "steps_at_once", return_value=at_once),
    ):
        x = draw(1, size, steps, sequences, width, dtype=dtype)
        assert_exact(of_layer(layer), dp.named_params(layer), x, dtype=dtype)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_from_a_state_of_the_batch(kind):
    """And between layers, which see the gradient of their input and of every state."""
    layer = RECURRENT[kind](3, 4).double()
    states = [draw(2, 3, 1, 2, 2 if "proj" in kind else 4), draw(3, 3, 1, 2, 4)]

    def loss_fn(params, x, *state):
        own = {name: value for name, value in params.items() if name != "before"}
        state = [part * params["before"].sum() for part in state]
        state = tuple(state) if "LSTM" in kind else state[0]
        return of_layer(layer)(own, x @ params["before"], state)

    params = {**dp.named_params(layer), "before": draw(5, 3, 3)}
    batch = (draw(1, 3, 5, 2, 3), *states[: 2 if "LSTM" in kind else 1])
    assert_exact(loss_fn, params, *batch)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_with_a_weight_made_of_a_parameter(kind):
    layer = RECURRENT[kind](3, 4, 2, bidirectional=True).double()
    nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    assert_exact(of_layer(layer), dp.named_params(layer), draw(1, 3, 5, 2, 3))


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_used_twice(kind):
    layer = RECURRENT[kind](4, 4).double()
    apart = of_layer(layer)
    loss_fn = lambda params, x: apart(params, x) + apart(params, x[1:].cos())  # noqa: E731
    assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, 5, 2, 4))


@pytest.mark.parametrize("kind", RECURRENT)
def test_packed_sequences(kind):
    layer = RECURRENT[kind](3, 5, 2, bidirectional=True).double()
    lengths = torch.tensor([4, 2, 5, 2])

    def loss_fn(params, x):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, last = functional_call(layer, params, (packed,))
        last = last if isinstance(last, tuple) else (last,)
        padded, _ = pad_packed_sequence(output, padding_value=0.5, total_length=7)
        return told_apart(padded) + sum(map(told_apart, last))

    assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, 6, 4, 3))


def test_packed_sequences_whose_lengths_are_data_are_refused():
    layer = nn.LSTM(3, 4).double()

    def loss_fn(params, x, lengths):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return functional_call(layer, params, (packed,))[0].data.sum()

    lengths = torch.tensor([[2, 3], [3, 1]])
    with pytest.raises(RuntimeError):
        dp.factored_grad(loss_fn)(dp.named_params(layer), draw(1, 2, 3, 2, 3), lengths)


def test_recurrent_outputs_changed_in_place_are_refused():
    layer = nn.GRU(3, 4).double()

    def loss_fn(params, x):
        return told_apart(functional_call(layer, params, (x,))[0].mul_(2.0))

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        dp.factored_grad(loss_fn)(dp.named_params(layer), draw(1, 2, 5, 1, 3))


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_recurrent_layers_under_autocast(kind, dtype):
    torch.manual_seed(0)  # weights that leave no ReLU so near 0 that rounding switches it
    layer = RECURRENT[kind](3, 4, 2)
    x = draw(1, 3, 5, 2, 3, dtype=torch.float32)
    expected, _ = dp.factored_grad(of_layer(layer))(dp.named_params(layer), x)

    def under_autocast(params, x):
        with torch.autocast("cpu", dtype=dtype):
            return of_layer(layer)(params, x)

    grads, _ = dp.factored_grad(under_autocast)(dp.named_params(layer), x)
    for name, factor in expected.items():
        scale = factor.dense().abs().max()
        torch.testing.assert_close(
            grads[name].dense().float() / scale, factor.dense() / scale, rtol=0.0, atol=0.06
        )
        assert grads[name].norm_sq().dtype == torch.float32


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_without_numbers(kind):
    """On the device meta, shapes alone."""
    layer = RECURRENT[kind](3, 4, 2, device="meta")
    loss_fn = lambda params, x: functional_call(layer, params, (x,))[0].sum()  # noqa: E731
    params = dp.named_params(layer)
    grads, losses = dp.factored_grad(loss_fn)(params, torch.empty(3, 5, 2, 3, device="meta"))
    assert losses.shape == (3,)
    assert {name: f.weighted_sum(losses).shape for name, f in grads.items()} == {
        name: param.shape for name, param in params.items()
    }


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells(kind):
    cell = kind(3, 4).double()

    def loss_fn(params, x):
        state = None
        for t in range(4):
            state = functional_call(cell, params, (x[t], state))
        return told_apart(state[0] * state[1] if isinstance(state, tuple) else state)

    assert_exact(loss_fn, dp.named_params(cell), draw(1, 3, 4, 3))


def test_recurrent_dropout_is_refused_unless_asked_for():
    layer = nn.LSTM(3, 4, 2, dropout=0.5)
    params, x = dp.named_params(layer), torch.ones(2, 5, 3)

    def loss_fn(params, x):
        return functional_call(layer, params, (x,))[0].sum()

    with pytest.raises(RuntimeError, match="randomness error mode"):
        dp.factored_grad(loss_fn)(params, x)
    dp.factored_grad(loss_fn, randomness="different")(params, x)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class Tied(nn.Module):
    """One table as input and output embedding, one layer used twice, positions of an arange."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.position = nn.Embedding(9, 6)
        self.twice = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.table(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        h = self.twice(self.twice(h).relu_())
        return F.linear(h, self.table.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
@as_outer
def test_tied_and_repeated_parameters(dtype, device):
    model = Tied().to(device, dtype)
    tokens = torch.tensor([[1, 2, 2, 5], [3, 3, 3, 3], [0, 10, 4, 1]], device=device)
    forms = assert_exact(of_module(model), dp.named_params(model), tokens, dtype=dtype)
    assert forms["table.weight"] is Sum
    assert forms["twice.weight"] is Outer


def test_a_parameter_used_by_a_rule_and_by_its_copy():
    def loss_fn(params, x):
        return told_apart(F.linear(x, params["w"]) @ params["w"].exp())

    assert_exact(loss_fn, {"w": draw(1, 3, 3)}, draw(2, 4, 5, 3))


def test_several_kinds_of_use_of_one_parameter():
    def loss_fn(params, x, index):
        w = params["w"]
        return told_apart(F.embedding(index, w).sum(0) @ w.T) + F.linear(x, w).sum() + w.sum()

    assert_exact(loss_fn, {"w": draw(1, 4, 3)}, draw(2, 5, 3), torch.arange(10).reshape(5, 2) % 4)


# The traps of docs/design.md, each by its name.


def test_trap_an_input_that_is_not_mapped():
    """Positions come from an arange: the tap must still see each sample's own gradient."""
    layer = nn.Embedding(4, 3).double()

    def loss_fn(params, x):
        return (functional_call(layer, params, (torch.arange(4),)) * x).sum()

    assert_exact(loss_fn, dp.named_params(layer), draw(1, 3, 4, 3))


@pytest.mark.parametrize("inplace", ["relu_", "+=", "mul_"])
@pytest.mark.parametrize("operation", ["linear", "matmul", "vector @ matrix", "matrix @ vector"])
def test_trap_in_place_after_a_tapped_operation(inplace, operation):
    def loss_fn(params, x):
        x = x if operation in ("linear", "matmul") else x[0]
        if operation == "linear":
            y = F.linear(x, params["w"])
        else:
            y = params["w"] @ x if operation == "matrix @ vector" else x @ params["w"]
        if inplace == "+=":
            y += x
        else:
            y = y.relu_() if inplace == "relu_" else y.mul_(2.0)
        return told_apart(y)

    assert_exact(loss_fn, {"w": draw(1, 3, 3)}, draw(2, 4, 5, 3))


def test_trap_a_vmap_of_the_loss_itself():
    """Taps are then not called below the only vmap, but by the rules of custom functions."""
    layer = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)).double()

    def loss_fn(params, x):
        of_row = torch.func.vmap(lambda row: functional_call(layer, params, (row,)))
        return (of_row(x).square() * x.sum(1, keepdim=True)).sum()

    assert_exact(loss_fn, dp.named_params(layer), draw(1, 5, 6, 4))


def test_trap_an_input_changed_in_place_after_its_use_raises():
    def loss_fn(params, x):
        h = x * 1.0
        y = F.linear(h, params["w"])
        h.mul_(2.0)
        return told_apart(y) + h.sum()

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        dp.factored_grad(loss_fn)({"w": draw(1, 3, 3)}, draw(2, 4, 5, 3))


def test_trap_dropout_masks_differ_between_samples():
    def loss_fn(params, x):
        return F.linear(F.dropout(x, 0.5), params["w"]).sum()

    params, x = {"w": torch.ones(1, 200)}, torch.ones(2, 200)
    rows = dp.factored_grad(loss_fn, randomness="different")(params, x)[0]["w"].dense()
    assert not torch.equal(rows[0], rows[1])
    with pytest.raises(RuntimeError, match="randomness error mode"):
        dp.factored_grad(loss_fn)(params, x)


def test_trap_attention_dropout_is_refused_unless_asked_for():
    def loss_fn(params, x):
        return F.scaled_dot_product_attention(x @ params["w"], x, x, dropout_p=0.5).sum()

    with pytest.raises(RuntimeError, match="randomness error mode"):
        dp.factored_grad(loss_fn)({"w": draw(1, 4, 4)}, draw(2, 3, 5, 4))
    dp.factored_grad(loss_fn, randomness="different")({"w": draw(1, 4, 4)}, draw(2, 3, 5, 4))


@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 2), nn.Conv1d(3, 2, 1), nn.Embedding(4, 2)], ids=lambda x: str(x)[:6]
)
def test_trap_an_empty_batch(layer):
    x = (
        torch.zeros(0, 3, dtype=torch.int64)
        if isinstance(layer, nn.Embedding)
        else torch.zeros(0, 3, 3)
    )
    params = dp.named_params(layer)
    grads, losses = dp.factored_grad(of_module(layer))(params, x)
    assert {n: g.dense().shape for n, g in grads.items()} == {
        n: (0, *p.shape) for n, p in params.items()
    }
    assert all(grads[n].weighted_sum(torch.zeros(0)).shape == p.shape for n, p in params.items())
    assert losses.shape == (0,)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_trap_a_use_out_of_sight_is_refused_and_not_lost():
    @torch.jit.script
    def hidden(x, w):
        return (x @ w).sum()

    with pytest.raises(RuntimeError, match=r"expected torch functions to use \['w'\]"):
        dp.factored_grad(lambda params, x: hidden(x, params["w"]))(
            {"w": torch.ones(3, 3)}, torch.ones(2, 3, 3)
        )


def test_trap_inputs_that_are_not_contiguous():
    layer = nn.Conv2d(2, 3, 3).double()
    x = draw(1, 6, 6, 2, 4).permute(3, 2, 0, 1)
    assert_exact(of_module(layer), dp.named_params(layer), x)
    wide = draw(1, 4, 10, 6)[:, ::2]
    linear = nn.Linear(6, 3).double()
    assert_exact(of_module(linear), dp.named_params(linear), wide)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_trap_a_sample_that_is_not_finite_spoils_itself_alone(bad):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    x = draw(1, 3, 1, 6, 6)
    good = dp.factored_grad(of_module(model))(dp.named_params(model), x)[0]
    x[1, 0, 2, 2] = bad
    grads = dp.factored_grad(of_module(model))(dp.named_params(model), x)[0]
    weights = torch.tensor([1.0, 0.0, 0.5]).double()
    for name, factor in grads.items():
        expected = good[name].weighted_sum(weights)
        torch.testing.assert_close(factor.weighted_sum(weights), expected, rtol=1e-10, atol=1e-12)
        assert factor.norm_sq()[[0, 2]].isfinite().all()


def test_trap_a_step_leaves_nothing_behind():
    """Factors that held the graph, whose taps hold the factors, would never be freed."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    grads, losses = dp.factored_grad(of_module(model))(dp.named_params(model), torch.ones(3, 4))
    assert all(not t.requires_grad for f in grads.values() for t in vars(f).values())
    del grads, losses
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Record]


def test_frozen_parameters_cost_nothing_and_bias_only_training_works():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    model[0].weight.requires_grad_(False)
    model[2].weight.requires_grad_(False)
    forms = assert_exact(of_module(model), dp.named_params(model), draw(1, 3, 4))
    assert set(forms) == {"0.bias", "2.bias"}


def test_a_loss_without_a_slope_in_its_parameters():
    """Not one that leaves them out, which is refused."""
    grads, losses = dp.factored_grad(lambda params, x: x.sum() + 0 * params["w"].sum())(
        {"w": torch.ones(2)}, torch.ones(3, 2)
    )
    assert not grads["w"].dense().any()
    assert losses.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_equal_indices_of_a_large_table_are_added_whatever_their_dtype(dtype):
    large = 2**31 - 2
    index = torch.tensor([[large, 5, large, 7, large, large, 5]], dtype=dtype)
    norm_sq = Scatter(index, torch.ones(1, 7, 1), large + 1).norm_sq()
    assert norm_sq.tolist() == [4**2 + 2**2 + 1]
