import copy

import pytest
import torch
from torch import nn

import dpfunc as dp
from tests.modules.checking.networks import samples, squared_error


def trained(layer, seed=1):
    """With running statistics, a scale and a shift, as training leaves them."""
    draws = dp.normal(dp.key(seed), (4, layer.num_features))
    with torch.no_grad():
        layer.running_mean.copy_(draws[0])
        layer.running_var.copy_(draws[1].exp())
        if layer.affine:
            layer.weight.copy_(draws[2])
            layer.bias.copy_(draws[3])
    return layer


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_batch_norm_is_found_and_mended(norm):
    model = nn.Sequential(nn.Identity(), nn.Sequential(norm(12)))
    (problem,) = dp.check_module(model)
    assert problem.path == "1.0"
    assert "fix_module" in problem.fix
    fixed = dp.fix_module(model)
    assert dp.check_module(fixed) == []
    assert isinstance(fixed[1][0], nn.GroupNorm)
    assert isinstance(model[1][0], norm)


def test_instance_norm_loses_its_running_statistics():
    model = nn.Sequential(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    assert [problem.path for problem in dp.check_module(model)] == ["0"]
    fixed = dp.fix_module(model)
    assert dp.check_module(fixed) == []
    assert list(fixed.buffers()) == []
    x = torch.ones(2, 4, 3, 3).cumsum(-1)
    torch.testing.assert_close(fixed(x), model(x))
    torch.testing.assert_close(fixed.eval()(x), fixed.train()(x))


def test_the_learned_affine_is_kept_and_frozen_stays_frozen():
    layer = trained(nn.BatchNorm2d(8, eps=1e-3))
    layer.bias.requires_grad_(False)
    fixed = dp.fix_module(layer.eval())
    assert torch.equal(fixed.weight, layer.weight)
    assert torch.equal(fixed.bias, layer.bias)
    assert (fixed.weight.requires_grad, fixed.bias.requires_grad) == (True, False)
    assert (fixed.eps, fixed.training) == (1e-3, False)
    assert dp.fix_module(nn.BatchNorm2d(8, affine=False)).weight is None


def test_a_fixed_module_trains_and_leaves_the_original_alone():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    before = copy.deepcopy(model.state_dict())
    x = samples(5, 1, 8, 8)
    for fold in (False, True):
        fixed = dp.fix_module(model, fold_statistics=fold)
        grads = dp.per_sample_grad(squared_error(fixed))(
            dp.named_params(fixed), x, torch.zeros(5, 2)
        )
        assert all(grad.isfinite().all() for grad in grads.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 12, 16, 32, 64, 96, 512])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_no_group_is_so_small_that_it_normalises_its_input_away(norm, channels):
    fixed = dp.fix_module(norm(channels))
    assert channels % fixed.num_groups == 0
    assert fixed.num_groups <= 32
    smallest = 2 if norm is nn.BatchNorm2d else 16
    assert channels // fixed.num_groups >= min(smallest, channels)


def test_a_layer_used_twice_stays_one_layer():
    norm = nn.BatchNorm1d(4)
    fixed = dp.fix_module(nn.Sequential(norm, nn.ReLU(), norm))
    assert fixed[0] is fixed[2]


def test_layers_are_mended_wherever_modules_hold_them():
    model = nn.ModuleDict(
        {"list": nn.ModuleList([nn.BatchNorm1d(4)]), "deep": nn.Sequential(nn.ModuleDict())}
    )
    model["deep"][0]["norm"] = nn.BatchNorm3d(4)
    model["alone"] = nn.BatchNorm2d(4)
    fixed = dp.fix_module(model)
    changed = [name for name, at in fixed.named_modules() if isinstance(at, nn.GroupNorm)]
    assert changed == ["list.0", "deep.0.norm", "alone"]
    assert dp.check_module(fixed) == []


# --- running statistics ---


def typical(layer, groups):
    """A batch of two samples whose groups have the pooled running statistics."""
    mean, var = (part.reshape(groups, -1) for part in (layer.running_mean, layer.running_var))
    mean_g = mean.mean(1)
    var_g = (var + mean.square()).mean(1) - mean_g.square()
    x = samples(2, groups, layer.num_features // groups * 25)
    x = (x - x.mean(2, keepdim=True)) / x.std(2, correction=0, keepdim=True)
    return (x * var_g.sqrt()[:, None] + mean_g[:, None]).reshape(2, layer.num_features, 5, 5)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_folded_statistics_keep_the_outputs_of_typical_samples(affine, momentum):
    layer = trained(nn.BatchNorm2d(8, affine=affine, momentum=momentum)).eval()
    fixed = dp.fix_module(nn.Sequential(layer), fold_statistics=True)
    x = typical(layer, fixed[0].num_groups)
    torch.testing.assert_close(fixed(x), layer(x), rtol=1e-4, atol=1e-4)
    dropped = dp.fix_module(layer)(x)
    assert (dropped - layer(x)).norm() > 0.3 * layer(x).norm()


def test_statistics_are_not_used_unless_asked_for():
    one, other = trained(nn.BatchNorm2d(8)), trained(nn.BatchNorm2d(8))
    other.running_mean.mul_(3.0)
    other.running_var.add_(5.0)
    x = samples(2, 8, 5, 5)
    assert torch.equal(dp.fix_module(one)(x), dp.fix_module(other)(x))
    folded = [dp.fix_module(norm, fold_statistics=True)(x) for norm in (one, other)]
    assert not torch.allclose(*folded)


def test_folding_into_a_layer_without_scale_and_shift_adds_frozen_ones():
    model = nn.Sequential(nn.Linear(8, 8), trained(nn.BatchNorm1d(8, affine=False)))
    fixed = dp.fix_module(model, fold_statistics=True)
    assert dp.named_params(fixed).keys() == dp.named_params(model).keys()
    assert fixed[1].affine
    assert not fixed[1].weight.requires_grad


def test_folding_keeps_what_is_frozen_the_dtype_and_the_mode():
    layer = trained(nn.BatchNorm2d(8)).to(torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    fixed = dp.fix_module(layer, fold_statistics=True)
    assert (fixed.weight.requires_grad, fixed.bias.requires_grad) == (False, True)
    assert fixed.weight.dtype == torch.bfloat16
    assert not fixed.training


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(8), nn.BatchNorm2d(8, track_running_stats=False)], ids=str
)
def test_folding_changes_nothing_where_there_is_nothing_to_fold(layer):
    x = samples(2, 8, 5, 5)
    folded = dp.fix_module(layer, fold_statistics=True)
    torch.testing.assert_close(folded(x), dp.fix_module(layer)(x))


def test_a_scale_that_others_use_is_kept_shared_and_cannot_be_folded_into():
    model = nn.ModuleDict({"a": trained(nn.BatchNorm2d(4)), "b": trained(nn.BatchNorm2d(4), 2)})
    model["b"].weight = model["a"].weight
    fixed = dp.fix_module(model)
    assert fixed["a"].weight is fixed["b"].weight
    with pytest.raises(ValueError, match=r"\['a.weight', 'b.weight'\].*fold_statistics=False"):
        dp.fix_module(model, fold_statistics=True)


# --- what is refused, and what is reported ---


def test_lazy_layers_are_refused():
    for fix in (dp.fix_module, dp.fix_report):
        with pytest.raises(ValueError, match="run a forward pass first"):
            fix(nn.Sequential(nn.LazyBatchNorm1d()))


class Subclass(nn.BatchNorm2d):
    """Does no more than BatchNorm, which cannot be seen."""


class NormAct(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize("norm", [Subclass, NormAct])
def test_a_subclass_is_refused_by_its_name(norm):
    with pytest.raises(
        ValueError, match=rf"BatchNorm as torch.nn has it at '0'.*'{norm.__name__}'"
    ):
        dp.fix_module(nn.Sequential(norm(4)))


def test_a_parametrized_batch_norm_is_refused():
    layer = nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus(), unsafe=True)
    with pytest.raises(ValueError, match="ParametrizedBatchNorm2d"):
        dp.fix_module(layer)


def test_hooks_that_would_be_lost_are_refused():
    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook"):
        layer = nn.BatchNorm2d(4)
        getattr(layer, f"register_{register}")(lambda *_: None)
        with pytest.raises(ValueError, match="no hooks on the BatchNorm at '0'"):
            dp.fix_module(nn.Sequential(layer))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"fix_module: expected an nn.Module but got 'str'"):
        dp.fix_module("model")


def test_a_report_says_what_becomes_of_every_layer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    model = nn.Sequential(
        nn.BatchNorm2d(8),
        nn.BatchNorm1d(32, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.Linear(4, 4),
    )
    dropped, folded = (dp.fix_report(model, fold_statistics=fold) for fold in (False, True))
    assert [(at.path, at.was, at.now) for at in dropped] == [
        ("0", "BatchNorm2d", "GroupNorm(4, 8)"),
        ("1", "BatchNorm1d", "GroupNorm(2, 32)"),
        ("2", "BatchNorm2d", "GroupNorm(2, 4)"),
        ("3", "InstanceNorm2d", "InstanceNorm2d"),
    ]
    assert "running statistics dropped" in dropped[0].kept
    assert "folded into scale and shift" in folded[0].kept
    assert "folded into a frozen scale and shift" in folded[1].kept
    assert "there are no running statistics" in folded[2].kept
    assert folded[3] == dropped[3]
    fixed = dp.fix_module(model)
    for at, layer in zip(dropped[:3], fixed, strict=False):
        assert at.now == f"GroupNorm({layer.num_groups}, {layer.num_channels})"
    lines = str(dropped).splitlines()
    assert lines[0].split("  ")[0] == "path"
    assert len(lines) == 6
    assert dp.fix_report(fixed) == []
    assert str(dp.fix_report(fixed)) == "nothing to change"


def test_training_batch_norm_is_stopped_by_the_engine_too():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(RuntimeError, match="in-place"):
        dp.per_sample_grad(
            lambda params, x: torch.func.functional_call(model, params, (x[None],)).sum()
        )(dp.named_params(model), torch.ones(2, 1, 5, 5))
    assert not model[1].running_mean.any()
