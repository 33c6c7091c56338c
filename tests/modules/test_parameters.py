import pytest
import torch
from torch import nn

import dpfunc as dp


def test_named_params_are_views_of_the_trainable_parameters():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[1].bias.requires_grad_(False)
    params = dp.named_params(model)
    assert list(params) == ["0.weight", "0.bias", "1.weight"]
    assert not any(p.requires_grad for p in params.values())
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    assert (params["0.weight"] == 7).all()


def test_a_tied_parameter_appears_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert list(dp.named_params(model)) == ["0.weight"]


def test_set_grads_replaces_and_casts():
    model = nn.Linear(3, 2).to(torch.bfloat16)
    for value in (1.0, 2.0):
        dp.set_grads_(model, {"weight": torch.full((2, 3), value), "bias": torch.zeros(2)})
    assert model.weight.grad.dtype == torch.bfloat16
    assert (model.weight.grad == 2).all()


@pytest.mark.parametrize(
    "grads",
    [
        {"weight": torch.ones(2, 3)},
        {"weight": torch.ones(2, 3), "bias": torch.ones(2), "other": torch.ones(1)},
        {"weight": torch.ones(3, 2), "bias": torch.ones(2)},
    ],
)
def test_set_grads_writes_all_or_nothing(grads):
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="set_grads_: expected shapes"):
        dp.set_grads_(model, grads)
    assert model.weight.grad is None
    assert model.bias.grad is None
