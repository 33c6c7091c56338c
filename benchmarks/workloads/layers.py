"""Single layers with the shapes of Opacus's ``benchmarks/config.json`` (Opacus 1.6.0).

Opacus times each at batches of 16 to 512; here each has one batch, such that a plain step takes
milliseconds. Its criterion is a cross entropy on random numbers, here a squared error.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.workloads.workload import Workload, squared_error


def _to_random_labels(model: nn.Module, inputs: Tensor) -> Workload:
    with torch.no_grad():
        labels = torch.randn_like(model(inputs))
    return Workload(model, inputs, labels, squared_error)


class _CrossAttention(nn.Module):
    """64 queries attend to 128 keys and values; the three come as one tensor."""

    lengths = (64, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(100, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = x.split(self.lengths, 1)
        return self.attention(query, key, value)[0]


class _Outputs(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(100, 100, bias=False, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def linear() -> Workload:
    return _to_random_labels(nn.Linear(512, 512), torch.randn(512, 512))


def conv() -> Workload:
    return _to_random_labels(nn.Conv2d(64, 64, 8), torch.randn(16, 64, 50, 100))


def layer_norm() -> Workload:
    return _to_random_labels(nn.LayerNorm(64), torch.randn(512, 64))


def instance_norm() -> Workload:
    return _to_random_labels(nn.InstanceNorm1d(256, affine=True), torch.randn(128, 256, 64))


def group_norm() -> Workload:
    return _to_random_labels(nn.GroupNorm(16, 256), torch.randn(512, 256))


def lookup() -> Workload:
    return _to_random_labels(nn.Embedding(20_000, 100), torch.randint(20_000, (64,)))


def attention() -> Workload:
    return _to_random_labels(_CrossAttention(), torch.randn(64, sum(_CrossAttention.lengths), 100))


def recurrent(kind: type[nn.RNNBase]) -> Workload:
    return _to_random_labels(_Outputs(kind), torch.randn(64, 128, 100))


LAYERS: dict[str, Callable[[], Workload]] = {
    "layer_linear": linear,
    "layer_conv": conv,
    "layer_layernorm": layer_norm,
    "layer_instancenorm": instance_norm,
    "layer_groupnorm": group_norm,
    "layer_embedding": lookup,
    "layer_mha": attention,
    "layer_rnn": lambda: recurrent(nn.RNN),
    "layer_gru": lambda: recurrent(nn.GRU),
    "layer_lstm": lambda: recurrent(nn.LSTM),
}
