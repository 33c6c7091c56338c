"""Every use of a parameter that the factored engine knows, and some that it does not know.

A new rule joins the laws by a line here: `test_l7_every_rule.py` demands one for each rule.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dpfunc as dp
from dpfunc.types import Tensors
from tests.laws.losses import each_told_apart

SAMPLES = 3


def numbers(seed: int, *shape: int) -> Tensor:
    """Normal numbers, in float64."""
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


class Use(NamedTuple):
    """``outputs(params, *batch)``: of the whole batch, ``[B, ...]``, all in float64.

    ``whole_batch``, ``by_vmap``: whether a loss of the whole batch can have this use, and whether
    the definition, vmap over grad, can run it.
    """

    outputs: Callable[..., Tensor]
    params: Tensors
    batch: tuple[Tensor, ...]
    whole_batch: bool = True
    by_vmap: bool = True

    def to(self, dtype: torch.dtype) -> "Use":
        """The same use of numbers in ``dtype``."""

        def cast(values: Tensor) -> Tensor:
            return values.to(dtype) if values.is_floating_point() else values

        params = {name: cast(param) for name, param in self.params.items()}
        return self._replace(params=params, batch=tuple(map(cast, self.batch)))

    def losses(self, params: Tensors, *batch: Tensor) -> Tensor:
        """``[B]``: another weight for every output, in float32 at least."""
        return each_told_apart(self.outputs(params, *batch))

    def loss(self, params: Tensors, *sample: Tensor) -> Tensor:
        """The loss of one sample."""
        return self.losses(params, *(part[None] for part in sample))[0]


def _use(
    outputs: Callable[..., Tensor], params: dict[str, tuple[int, ...]], *shapes: tuple[int, ...]
) -> Use:
    made = {name: numbers(seed, *shape) for seed, (name, shape) in enumerate(params.items())}
    batch = tuple(numbers(50 + i, SAMPLES, *shape) for i, shape in enumerate(shapes))
    return Use(outputs, made, batch)


def _first(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _layer(module: nn.Module, *shapes: tuple[int, ...]) -> Use:
    """A module with random parameters and buffers."""
    parameters = dict(module.named_parameters())
    for seed, buffer in enumerate(b for b in module.buffers() if b.is_floating_point()):
        buffer.copy_(numbers(20 + seed, *buffer.shape).abs())

    def outputs(params: Tensors, *batch: Tensor) -> Tensor:
        dtype = next(iter(params.values())).dtype
        buffers = {
            name: buffer.to(dtype) if buffer.is_floating_point() else buffer
            for name, buffer in module.named_buffers()
        }
        return _first(functional_call(module, (params, buffers), batch))

    return _use(outputs, {name: tuple(p.shape) for name, p in parameters.items()}, *shapes)


def _recurrent(module: nn.Module) -> Use:
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    steps_first = lambda p, x: functional_call(module, p, (x.mT.permute(2, 0, 1),))[0]  # noqa: E731
    use = _use(lambda p, x: steps_first(p, x).transpose(0, 1), shapes, (5, 3))
    return use._replace(by_vmap=False)


def _cell(module: nn.Module) -> Use:
    def outputs(params: Tensors, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = functional_call(module, params, (x[:, t], state))
        return _first(state)

    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    return _use(outputs, shapes, (4, 3))._replace(by_vmap=False)


def _packed(params: Tensors, x: Tensor) -> Tensor:
    lengths = torch.tensor([4, 2])
    packed = pack_padded_sequence(x[0], lengths, enforce_sorted=False, batch_first=True)
    output, _ = functional_call(_PACKED, params, (packed,))
    return pad_packed_sequence(output, batch_first=True)[0][None]


_PACKED = nn.GRU(3, 4)


def _lookup(outputs: Callable[..., Tensor], params: dict[str, tuple[int, ...]]) -> Use:
    index = torch.tensor([[1, 2, 2, 6, 0], [2, 2, 2, 2, 2], [5, 1, 6, 6, 4]])
    return _use(outputs, params)._replace(batch=(index,))


def _bag(mode: str, **options: int) -> Use:
    return _lookup(
        lambda p, index: F.embedding_bag(index, p["w"], mode=mode, **options), {"w": (7, 3)}
    )


def _bags_by_offsets(mode: str, **options: int) -> Use:
    """Three bags a sample, one of which is empty, at offsets that are data."""

    def outputs(params: Tensors, index: Tensor, offsets: Tensor) -> Tensor:
        return F.embedding_bag(index[0], params["w"], offsets[0], mode=mode, **options)[None]

    use = _bag(mode)
    offsets = torch.tensor([[0, 2, 2], [0, 4, 5], [0, 1, 3]])
    return use._replace(outputs=outputs, batch=(*use.batch, offsets), whole_batch=False)


def _weighted_bag(params: Tensors, index: Tensor) -> Tensor:
    weights = params["s"].expand(len(index), -1)
    return F.embedding_bag(index, params["w"], mode="sum", per_sample_weights=weights)


def _attended(params: Tensors, x: Tensor) -> Tensor:
    q, k, v = (x @ params[name] for name in "qkv")
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], is_causal=True)


def _one_by_one(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` of a sample without its axis, which a loss of the whole batch cannot call."""
    return lambda params, x: function(params, x[0])[None]


def _tied(params: Tensors, index: Tensor) -> Tensor:
    return F.embedding(index, params["w"]).tanh() @ params["w"].T


def _masked_in_place(params: Tensors, x: Tensor) -> Tensor:
    """By a mask of entries, a mask of positions, and a number that was computed."""
    y = x @ params["w"]
    y[y > 1.0] = 1.0
    y[x[..., 0] > 0.5] = torch.zeros((), dtype=y.dtype)
    return y


def _masked_by_a_parameter(params: Tensors, x: Tensor) -> Tensor:
    y = x.clone()
    y[x[..., 0] > 0.5] = params["w"]
    return y @ params["v"]


def _asks_requires_grad(params: Tensors, x: Tensor) -> Tensor:
    y = x @ params["w"]
    return y if y.requires_grad else y.detach()


_W = {"w": (4, 3)}
_ATTENTION = partial(nn.MultiheadAttention, 4, 2, batch_first=True)

_WITHOUT_WEIGHTS = _ATTENTION(add_bias_kv=True, add_zero_attn=True)

USES: dict[str, Use] = {
    "F.linear": _use(lambda p, x: F.linear(x, p["w"], p["b"]), {"w": (3, 4), "b": (3,)}, (5, 4)),
    "F.linear of a vector": _layer(nn.Linear(4, 3), (4,)),
    "F.linear with a bias of one number": _use(
        lambda p, x: F.linear(x, p["w"], p["b"]), {"w": (3, 4), "b": (1,)}, (4,)
    ),
    "F.linear in its Gram form": _layer(nn.Linear(50, 40), (2, 50)),
    "x @ w": _use(lambda p, x: x @ p["w"], _W, (5, 4)),
    "x.matmul(w)": _use(lambda p, x: x.matmul(p["w"]), _W, (5, 4)),
    "torch.matmul": _use(lambda p, x: torch.matmul(x, p["w"]), _W, (5, 4)),
    "w.__rmatmul__(x)": _use(lambda p, x: Tensor.__rmatmul__(p["w"], x), _W, (5, 4)),
    "w @ v": _use(_one_by_one(lambda p, x: p["w"] @ x), {"w": (3, 4)}, (4,))._replace(
        whole_batch=False
    ),
    "torch.mm": _use(lambda p, x: torch.mm(x, p["w"]), _W, (4,)),
    "x.mm(w)": _use(lambda p, x: x.mm(p["w"]), _W, (4,)),
    "torch.addmm": _use(lambda p, x: torch.addmm(p["b"], x, p["w"]), {**_W, "b": (3,)}, (4,)),
    "b.addmm(x, w)": _use(lambda p, x: p["b"].addmm(x, p["w"]), {**_W, "b": (3,)}, (4,)),
    "torch.bmm": _use(
        lambda p, x: torch.bmm(x, p["w"].expand(len(x), -1, -1)), {"w": (1, 4, 3)}, (5, 4)
    ),
    "x @ w.T": _use(lambda p, x: x @ p["w"].T, {"w": (3, 4)}, (5, 4)),
    "torch.einsum": _use(
        lambda p, x: torch.einsum("btd,dhk->bhtk", x, p["w"]), {"w": (4, 2, 3)}, (5, 4)
    ),
    "torch.einsum along a shared index": _use(
        lambda p, x: torch.einsum("bth,h->bth", x, p["w"]), {"w": (4,)}, (5, 4)
    ),
    "F.bilinear": _layer(nn.Bilinear(4, 3, 2), (5, 4), (5, 3)),
    "F.conv1d": _layer(nn.Conv1d(4, 6, 3, padding=1, groups=2), (4, 7)),
    "F.conv2d": _layer(nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2)), (2, 7, 6)),
    "F.conv2d, padding same": _layer(nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 4)),
    "F.conv2d by a call a sample": _layer(nn.Conv2d(96, 96, 3, padding=1), (96, 8, 8)),
    "F.conv2d by Gram matrices": _layer(nn.Conv2d(40, 48, 3, padding=1), (40, 3, 3)),
    "F.conv2d by patches": _layer(nn.Conv2d(32, 40, 2, padding=1), (32, 5, 5)),
    "F.conv3d": _layer(nn.Conv3d(1, 2, 2), (1, 3, 4, 3)),
    "F.conv_transpose1d": _layer(
        nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2), (4, 5)
    ),
    "F.conv_transpose2d": _layer(nn.ConvTranspose2d(2, 3, 2, stride=2, padding=1), (2, 4, 4)),
    "F.conv_transpose3d": _layer(nn.ConvTranspose3d(1, 2, 2), (1, 2, 3, 2)),
    "F.embedding": _lookup(lambda p, index: F.embedding(index, p["w"], 2), {"w": (7, 3)}),
    "F.embedding of positions": _use(
        lambda p, x: x * F.embedding(torch.arange(5), p["w"]),
        {"w": (7, 3)},
        (5, 3),
    ),
    "a tied table": _lookup(_tied, {"w": (7, 3)}),
    "F.embedding_bag, sum": _bag("sum", padding_idx=2),
    "F.embedding_bag, mean": _bag("mean"),
    "F.embedding_bag, max": _bag("max"),
    "F.embedding_bag, sum, with offsets": _bags_by_offsets("sum"),
    "F.embedding_bag, mean, with offsets": _bags_by_offsets("mean", padding_idx=2),
    "F.embedding_bag, max, with offsets": _bags_by_offsets("max"),
    "F.embedding scaled by frequency": _lookup(
        lambda p, index: F.embedding(index, p["w"], scale_grad_by_freq=True), {"w": (7, 3)}
    )._replace(whole_batch=False),
    "F.embedding_bag, weighted": _lookup(_weighted_bag, {"w": (7, 3), "s": (1, 5)}),
    "F.layer_norm": _layer(nn.LayerNorm(6), (5, 6)),
    "F.rms_norm": _layer(nn.RMSNorm(6), (5, 6)),
    "F.group_norm": _layer(nn.GroupNorm(2, 4), (4, 6)),
    "F.batch_norm in eval mode": _layer(nn.BatchNorm1d(4).eval(), (4, 6)),
    "F.instance_norm": _layer(nn.InstanceNorm1d(4, affine=True), (4, 6)),
    "F.scaled_dot_product_attention": _use(_attended, dict.fromkeys("qkv", (4, 4)), (5, 4)),
    "F.multi_head_attention_forward": _layer(_ATTENTION(), *3 * [(5, 4)]),
    "F.multi_head_attention_forward, separate": _layer(
        _ATTENTION(kdim=3, vdim=6), (5, 4), (2, 3), (2, 6)
    ),
    "F.multi_head_attention_forward, bias_kv": _layer(_ATTENTION(add_bias_kv=True), *3 * [(5, 4)]),
    "F.multi_head_attention_forward, without weights": _use(
        lambda p, x: functional_call(_WITHOUT_WEIGHTS, p, (x, x, x), {"need_weights": False})[0],
        {name: tuple(p.shape) for name, p in _WITHOUT_WEIGHTS.named_parameters()},
        (5, 4),
    ),
    "torch.lstm": _recurrent(nn.LSTM(3, 4, 2, bidirectional=True)),
    "torch.lstm with projections": _recurrent(nn.LSTM(3, 4, proj_size=2)),
    "torch.gru": _recurrent(nn.GRU(3, 4, 2, bidirectional=True)),
    "torch.rnn_tanh": _recurrent(nn.RNN(3, 4)),
    "torch.rnn_relu": _recurrent(nn.RNN(3, 4, nonlinearity="relu")),
    "a packed sequence": _use(
        _packed, {name: tuple(p.shape) for name, p in _PACKED.named_parameters()}, (2, 4, 3)
    )._replace(whole_batch=False, by_vmap=False),
    "torch.lstm_cell": _cell(nn.LSTMCell(3, 4)),
    "torch.gru_cell": _cell(nn.GRUCell(3, 4)),
    "torch.rnn_tanh_cell": _cell(nn.RNNCell(3, 4)),
    "torch.rnn_relu_cell": _cell(nn.RNNCell(3, 4, nonlinearity="relu")),
    "x * w": _use(lambda p, x: x * p["w"], {"w": (4,)}, (5, 4)),
    "x + w": _use(lambda p, x: x + p["w"], {"w": (4,)}, (5, 4)),
    "w - x": _use(lambda p, x: p["w"] - x, {"w": (5, 1)}, (5, 4)),
    "x / w": _use(lambda p, x: x / p["w"], {"w": (1,)}, (5, 4)),
    "w.expand": _use(
        lambda p, x: torch.cat([p["w"].expand(len(x), -1, -1), x], 1), {"w": (1, 1, 4)}, (5, 4)
    ),
    "torch.where": _use(lambda p, x: torch.where(x > 0, x, p["w"]), {"w": (4,)}, (5, 4)),
    "y[mask] = 0": _use(_masked_in_place, _W, (5, 4))._replace(by_vmap=False),
    "y[mask] = w": _use(_masked_by_a_parameter, {"w": (4,), "v": (4, 3)}, (5, 4))._replace(
        by_vmap=False
    ),
    "torch.cond": _use(
        _one_by_one(
            lambda p, x: torch.cond(
                x.sum() > 0, lambda x, w: F.linear(x, w), lambda x, w: (w @ x).sin(), (x, p["w"])
            )
        ),
        {"w": (3, 4)},
        (4,),
    )._replace(whole_batch=False, by_vmap=False),
    "requires_grad": _use(_asks_requires_grad, _W, (4,)),
    "F.prelu": _layer(nn.PReLU(4), (4, 6)),
    "x * w.exp()": _use(lambda p, x: x * p["w"].exp(), {"w": (4,)}, (5, 4)),
}
