"""The models that the step benchmark trains: each a module, a batch and a criterion on logits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Workload(NamedTuple):
    """``loss(logits [B, ...], labels [B, ...]) -> losses [B]``."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    losses: Callable[[Tensor, Tensor], Tensor]


def _classification(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _next_token(logits: Tensor, labels: Tensor) -> Tensor:
    return (
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        .unflatten(0, labels.shape)
        .mean(1)
    )


def mlp(size: int = 256, width: int = 1024, depth: int = 2) -> Workload:
    """784-1024-1024-10."""
    layers: list[nn.Module] = [nn.Linear(784, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    return Workload(model, torch.randn(size, 784), torch.randint(10, (size,)), _classification)


def mnist_cnn(size: int = 256) -> Workload:
    """The 26,010 parameters of fast-dpsgd's MNIST model."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    inputs, labels = torch.randn(size, 1, 28, 28), torch.randint(10, (size,))
    return Workload(model, inputs, labels, _classification)


def cifar_cnn(size: int = 64) -> Workload:
    """fast-dpsgd's CIFAR-10 model with 605,226 parameters."""

    def pair(inner: int, outer: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inner, outer, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]

    model = nn.Sequential(
        *pair(3, 32)[:4],
        nn.AvgPool2d(2),
        *pair(32, 64),
        *pair(64, 128),
        nn.Conv2d(128, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 10, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    inputs, labels = torch.randn(size, 3, 32, 32), torch.randint(10, (size,))
    return Workload(model, inputs, labels, _classification)


class _MeanEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10_004, 16)
        self.output = nn.Linear(16, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.embedding(tokens).mean(1))


def embedding(size: int = 256) -> Workload:
    """fast-dpsgd's IMDb embedding: 10,004 x 16, 256 tokens a sample."""
    tokens, labels = torch.randint(10_004, (size, 256)), torch.randint(2, (size,))
    return Workload(_MeanEmbedding(), tokens, labels, _classification)


class _MeanState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10_004, 100)
        self.lstm = nn.LSTM(100, 100, batch_first=True)
        self.output = nn.Linear(100, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(tokens))[0].mean(1))


def lstm(size: int = 64) -> Workload:
    """fast-dpsgd's IMDb LSTM: 100-100, 256 tokens a sample."""
    tokens, labels = torch.randint(10_004, (size, 256)), torch.randint(2, (size,))
    return Workload(_MeanState(), tokens, labels, _classification)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels)


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, as in He et al. 2016, with GroupNorm."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.first_norm = _norm(outer)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.second_norm = _norm(outer)
        same = stride == 1 and inner == outer
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), _norm(outer))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        y = self.second_norm(self.second(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


def resnet18(size: int = 64) -> Workload:
    """ResNet-18 with GroupNorm on 32 x 32 images, as torchvision builds it for 224 x 224."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        _norm(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inner = 64
    for outer, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_BasicBlock(inner, outer, stride), _BasicBlock(outer, outer, 1)]
        inner = outer
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    inputs, labels = torch.randn(size, 3, 32, 32), torch.randint(10, (size,))
    return Workload(model, inputs, labels, _classification)


class _Transformer(nn.Module):
    """A pre-norm causal language model."""

    def __init__(self, width: int, depth: int, length: int, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 64, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, words)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        self.register_buffer("mask", mask)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        return self.output(self.norm(x))


def transformer(size: int = 32) -> Workload:
    """d=256, 4 layers, 128 tokens, 10,000 words."""
    model = _Transformer(256, 4, 128, 10_000)
    tokens, labels = torch.randint(10_000, (size, 128)), torch.randint(10_000, (size, 128))
    return Workload(model, tokens, labels, _next_token)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "mlp": mlp,
    "mnist_cnn": mnist_cnn,
    "cifar_cnn": cifar_cnn,
    "embedding": embedding,
    "lstm": lstm,
    "resnet18": resnet18,
    "transformer": transformer,
}
