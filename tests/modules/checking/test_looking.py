import copy
import warnings

import pytest
import torch
from torch import nn

from dpfunc.modules.checking.looking import can_run, look
from tests.modules.checking.networks import Written, linear


def quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def meta_beside_cpu():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))


def with_dropout():
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Sequential(nn.Dropout2d(0.1)))


def tied():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    return model


FOUND = {
    "BatchNorm": (lambda: nn.Sequential(nn.BatchNorm2d(4)), "0", "error", "statistics of the ba"),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), "", "error", "SyncBatchNorm normalises"),
    "BatchNorm without statistics": (
        lambda: nn.BatchNorm1d(4, track_running_stats=False).eval(),
        "",
        "error",
        "statistics of the batch",
    ),
    "InstanceNorm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)),
        "0",
        "error",
        "running statistics",
    ),
    "Embedding": (lambda: nn.Sequential(nn.Embedding(4, 3, max_norm=1)), "0", "error", "max_norm"),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(4, 3, max_norm=1), "", "error", "max_norm"),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))),
        "0.parametrizations.weight.0",
        "error",
        "writes its vectors to buffers",
    ),
    "spectral norm by a hook": (
        lambda: quietly(lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)))),
        "0",
        "error",
        "writes its vectors to buffers",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "0", "error", "is lazy"),
    "script": (
        lambda: nn.Sequential(linear(), quietly(lambda: torch.jit.script(nn.Sequential(linear())))),
        "1",
        "error",
        "TorchScript hides",
    ),
    "trace": (
        lambda: quietly(lambda: torch.jit.trace(linear(), torch.ones(1, 6))),
        "",
        "error",
        "TorchScript hides",
    ),
    "complex": (
        lambda: nn.Linear(2, 2, bias=False, dtype=torch.complex64),
        "weight",
        "error",
        "a complex parameter",
    ),
    "devices": (meta_beside_cpu, "1.weight", "error", "several devices: cpu, meta"),
    "dropout": (with_dropout, "1", "warning", "draws dropout masks (and 1 more)"),
    "dropout of an LSTM": (
        lambda: nn.Sequential(nn.LSTM(2, 2, num_layers=2, dropout=0.1)),
        "0",
        "warning",
        "draws dropout masks",
    ),
    "dropout of attention": (
        lambda: nn.MultiheadAttention(4, 2, dropout=0.1),
        "",
        "warning",
        "draws dropout masks",
    ),
    "float16": (lambda: nn.Linear(2, 2).half(), "weight", "warning", "overflow above 65504"),
    "bfloat16": (
        lambda: nn.Linear(2, 2, bias=False).bfloat16(),
        "weight",
        "note",
        "8 bits of precision",
    ),
    "shared": (tied, "0.weight", "note", "shared: also known as 1.weight"),
}

FINE = {
    "linear": linear,
    "BatchNorm in eval mode": lambda: nn.BatchNorm2d(4).eval(),
    "InstanceNorm": lambda: nn.InstanceNorm2d(4),
    "InstanceNorm in eval mode": lambda: nn.InstanceNorm2d(4, track_running_stats=True).eval(),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "Embedding": lambda: nn.Embedding(4, 3),
    "in-place ReLU": lambda: nn.Sequential(linear(), nn.ReLU(inplace=True)),
    "dropout in eval mode": lambda: with_dropout().eval(),
    "dropout of nothing": lambda: nn.Dropout(0.0),
    "an LSTM without dropout": lambda: nn.LSTM(2, 2, num_layers=2),
    "spectral norm in eval mode": lambda: nn.utils.parametrizations.spectral_norm(linear()).eval(),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(linear()),
    "frozen and complex": lambda: nn.Linear(2, 2, dtype=torch.complex64).requires_grad_(False),
    "a layer used twice": lambda: Written(lambda self, x: self.a(self.a(x)), a=linear()),
    "all on meta": lambda: nn.Linear(2, 2, device="meta"),
    "no parameters": nn.ReLU,
}


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found(case):
    make, path, severity, what = FOUND[case]
    (problem,) = look(make())
    assert (problem.path, problem.severity) == (path, severity)
    assert what in problem.what
    assert len(problem.why) > 10
    assert len(problem.fix) > 9


@pytest.mark.parametrize("case", FINE)
def test_what_is_fine(case):
    assert look(FINE[case]()) == []


def test_a_module_under_two_names_shares_its_parameters():
    layer = nn.Linear(2, 2, bias=False)
    (problem,) = look(nn.ModuleDict({"first": layer, "second": layer}))
    assert (problem.path, problem.severity) == ("first.weight", "note")


def test_a_script_is_told_once_and_its_neighbours_too():
    scripts = [quietly(lambda: torch.jit.script(nn.Sequential(linear()))) for _ in range(2)]
    model = nn.ModuleDict({"a": scripts[0], "ab": scripts[1]})
    assert [at.path for at in look(model)] == ["a", "ab"]


@pytest.mark.parametrize("case", FOUND)
def test_looking_changes_nothing(case):
    model = FOUND[case][0]()
    before = [(copy.copy(vars(layer)), layer.training) for layer in model.modules()]
    look(model)
    for layer, (attributes, training) in zip(model.modules(), before, strict=True):
        assert layer.training == training
        assert all(vars(layer)[name] is value for name, value in attributes.items())


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"check_module: expected an nn.Module but got 'function'"):
        look(lambda x: x)


def test_what_has_no_numbers_cannot_run():
    assert can_run(linear())
    assert not can_run(nn.LazyLinear(3))
    assert not can_run(nn.LazyBatchNorm1d())
    assert not can_run(meta_beside_cpu())
