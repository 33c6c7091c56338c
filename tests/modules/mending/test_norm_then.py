"""Subclasses of BatchNorm that call their submodules: timm's BatchNormAct2d and its like."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm has it: normalise, drop, activate, all in a forward of its own."""

    def __init__(self, channels, act=nn.SiLU):
        super().__init__(channels)
        self.drop, self.act = nn.Dropout(0.1), act()

    def forward(self, x):
        x = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class WithRelu(nn.BatchNorm2d):
    """Does more than its submodules tell."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.Identity()

    def forward(self, x):
        return super().forward(x).relu()


class Scaled(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.scale = nn.Parameter(torch.ones(()))


def test_submodules_are_kept_and_called_after_the_norm():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(8.0) - 3)
        model[1].bias.copy_(torch.arange(8.0).cos())
    fixed = dp.fix_module(model).eval()
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = F.silu(F.group_norm(fixed[0](x), 4, model[1].weight, model[1].bias))
    torch.testing.assert_close(fixed(x), expected)
    kept = {n for n in model.state_dict() if "running" not in n and "num_batches" not in n}
    assert set(fixed.state_dict()) == kept
    assert dp.check_module(fixed) == []
    assert type(model[1]) is BatchNormAct2d


def test_folded_statistics_are_those_of_the_layer():
    model = BatchNormAct2d(4, act=nn.Identity)
    with torch.no_grad():
        model.running_mean.copy_(torch.arange(4.0))
        model.running_var.copy_(1 + torch.arange(4.0))
    plain = nn.BatchNorm2d(4)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    fixed = dp.fix_module(model, fold_statistics=True).eval()
    torch.testing.assert_close(fixed(x), dp.fix_module(plain, fold_statistics=True).eval()(x))


@pytest.mark.parametrize("layer", [WithRelu(4), Scaled(4)])
def test_what_would_be_lost_is_refused(layer):
    with pytest.raises(ValueError, match="what it does beyond that would be lost"):
        dp.fix_module(nn.Sequential(layer))
