import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp


class Counter(nn.Module):
    """Remembers the data it has seen, and has a parameter that it does not use."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(3))
        self.idle = nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.seen += x.sum(0)
        return self.inner(x)


def loss_of(model):
    def loss_fn(params, x, y):
        return F.mse_loss(torch.func.functional_call(model, params, (x[None],)), y[None])

    return loss_fn


BATCH = (torch.ones(4, 3), torch.zeros(4, 2))


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


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_batch_norm_is_found_and_mended(norm):
    model = nn.Sequential(nn.Identity(), nn.Sequential(norm(12)))
    (problem,) = dp.check_module(model)
    assert problem.path == "1.0"
    assert norm.__name__ in problem.what
    assert "fix_module" in problem.fix
    fixed = dp.fix_module(model)
    assert dp.check_module(fixed) == []
    assert isinstance(fixed[1][0], nn.GroupNorm)
    assert isinstance(model[1][0], norm)


def test_batch_norm_with_fixed_statistics_is_no_problem():
    assert dp.check_module(nn.Sequential(nn.BatchNorm1d(3)).eval()) == []
    assert len(dp.check_module(nn.BatchNorm1d(3, track_running_stats=False).eval())) == 1


def test_instance_norm_loses_its_running_statistics():
    model = nn.Sequential(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    assert [problem.path for problem in dp.check_module(model)] == ["0"]
    fixed = dp.fix_module(model)
    assert dp.check_module(fixed) == []
    assert list(fixed.buffers()) == []
    x = torch.ones(2, 4, 3, 3).cumsum(-1)
    torch.testing.assert_close(fixed(x), model(x))


def test_the_learned_affine_is_kept_and_frozen_stays_frozen():
    layer = nn.BatchNorm2d(8, eps=1e-3)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(8.0))
        layer.bias.fill_(2.0)
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
    fixed = dp.fix_module(model)
    x = dp.normal(dp.key(1), (5, 1, 8, 8))
    grads = dp.per_sample_grad(loss_of(fixed))(dp.named_params(fixed), x, torch.zeros(5, 2))
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


def test_lazy_layers_are_refused():
    with pytest.raises(ValueError, match="run a forward pass first"):
        dp.fix_module(nn.Sequential(nn.LazyBatchNorm1d()))


def test_the_probe_finds_changing_buffers_and_unused_parameters():
    model = Counter()
    problems = {p.path: p for p in dp.check_module(model, loss_of(model), batch=BATCH)}
    assert sorted(problems) == ["idle", "seen"]
    assert "does not use" in problems["idle"].what
    assert "without any noise" in problems["seen"].why
    assert not model.seen.any()  # put back
    assert all(p.grad is None for p in model.parameters())


def test_the_probe_finds_parameters_changed_in_forward():
    model = nn.Sequential(nn.Embedding(4, 3, max_norm=0.5))
    before = model[0].weight.detach().clone()
    index = torch.tensor([0, 1])
    (problem,) = dp.check_module(
        model,
        lambda p, x: torch.func.functional_call(model, p, (x[None],)).square().sum(),
        batch=index,
    )
    assert problem.path == "0.weight"
    assert "changed in the forward pass" in problem.what
    assert torch.equal(model[0].weight, before)


class Growing(nn.Module):
    """Registers a buffer in forward, and has one that holds NaN."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.register_buffer("unknown", torch.tensor([float("nan")]))

    def forward(self, x):
        self.register_buffer("late", x.detach().sum())
        return self.inner(x)


def test_the_probe_sees_new_buffers_and_lets_nan_be():
    model = Growing()
    assert [p.path for p in dp.check_module(model, loss_of(model), batch=BATCH)] == ["late"]


def test_a_batch_norm_that_does_more_is_not_replaced():
    class NormAct(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(ValueError, match="expected BatchNorm as"):
        dp.fix_module(nn.Sequential(NormAct(4)))


def test_the_probe_reports_a_loss_that_raises():
    model = nn.Linear(3, 2)
    (problem,) = dp.check_module(model, lambda params, x, y: 1 / 0, batch=BATCH)
    assert "division by zero" in problem.what


def test_a_sound_module_has_no_problems():
    model = nn.Linear(3, 2)
    assert dp.check_module(model, loss_of(model), batch=BATCH) == []
    with pytest.raises(ValueError, match="loss_fn and batch together, or neither"):
        dp.check_module(model, loss_of(model))


def test_training_batch_norm_is_stopped_by_the_engine_too():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(RuntimeError, match="in-place"):
        dp.per_sample_grad(
            lambda params, x: torch.func.functional_call(model, params, (x[None],)).sum()
        )(dp.named_params(model), torch.ones(2, 1, 5, 5))
    assert math.isclose(model[1].running_mean.sum().item(), 0.0)
