"""Images: an MLP, the two CNNs of fast-dpsgd, ResNet-18 and WRN-16-4."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.workloads.workload import Workload, classification


def mlp(size: int = 256, width: int = 1024, depth: int = 2) -> Workload:
    """784-1024-1024-10."""
    layers: list[nn.Module] = [nn.Linear(784, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    return Workload(model, torch.randn(size, 784), torch.randint(10, (size,)), classification)


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
    return Workload(model, inputs, labels, classification)


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
    return Workload(model, inputs, labels, classification)


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
    return Workload(model, inputs, labels, classification)


class _WideBlock(nn.Module):
    """The pre-activation block of Zagoruyko and Komodakis 2016, with GroupNorm."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(16, inner)
        self.first = nn.Conv2d(inner, outer, 3, stride, 1)
        self.second_norm = nn.GroupNorm(16, outer)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1)
        self.shortcut = nn.Conv2d(inner, outer, 1, stride) if inner != outer else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = F.relu(self.second_norm(self.first(y)))
        return self.second(y) + shortcut


def wrn_16_4(size: int = 32) -> Workload:
    """WRN-16-4 with 16 groups on 32 x 32 images, the network of De et al. 2022 on CIFAR-10."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1)]
    inner = 16
    for outer, stride in ((64, 1), (128, 2), (256, 2)):
        layers += [_WideBlock(inner, outer, stride), _WideBlock(outer, outer, 1)]
        inner = outer
    head = [nn.GroupNorm(16, 256), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, *head, nn.Linear(256, 10))
    inputs, labels = torch.randn(size, 3, 32, 32), torch.randint(10, (size,))
    return Workload(model, inputs, labels, classification)
