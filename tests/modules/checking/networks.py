"""Small modules, each with something to be found, or nothing."""

import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp


class Written(nn.Module):
    """A module out of layers and a ``forward(self, *inputs)`` written in place."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs, **named):
        return self.written(self, *inputs, **named)


def linear():
    return nn.Linear(6, 6)


def samples(*shape, seed=1):
    return dp.normal(dp.key(seed), shape)


class BasicBlock(nn.Module):
    """As in torchvision: one in-place ReLU used twice, and a shortcut that is added in place."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or inner != outer:
            shortcut = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outer))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18 of He et al. 2016, with the module names and in-place operations of torchvision."""

    def __init__(self, classes=10, width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inner = width
        for stage, (outer, stride) in enumerate(
            ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)), start=1
        ):
            blocks = nn.Sequential(BasicBlock(inner, outer, stride), BasicBlock(outer, outer, 1))
            setattr(self, f"layer{stage}", blocks)
            inner = outer
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inner, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def squared_error(model):
    """The loss of one sample."""

    def loss_fn(params, x, y):
        return F.mse_loss(torch.func.functional_call(model, params, (x[None],)), y[None])

    return loss_fn


def squared_errors(model):
    """The losses of a whole batch."""

    def loss_fn(params, x, y):
        return (torch.func.functional_call(model, params, (x,)) - y).square().flatten(1).mean(1)

    return dp.batched(loss_fn)
