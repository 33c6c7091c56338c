import copy

import pytest
import torch
from torch import nn

import dpfunc as dp
from dpfunc.modules.checking.running import ForwardError, Runner, forward_of, nearby
from dpfunc.modules.checking.state import Kept
from tests.modules.checking.networks import Written, linear, samples, squared_error, squared_errors


def runner(model, loss_fn=None):
    return Runner(model, forward_of(model, loss_fn), dp.named_params(model), Kept(model, set()))


def test_a_run_shows_what_was_returned_and_called():
    model = nn.Sequential(linear(), nn.ReLU())
    x = samples(4, 6)
    run = runner(model).run((x,))
    torch.testing.assert_close(run.outputs, [model(x).detach()])
    assert [call.path for call in run.calls] == ["0", "1", ""]
    assert (run.changes, run.written, run.touched, run.unused) == ([], [], [], None)


def test_a_module_takes_a_tensor_a_tuple_or_keywords():
    model = Written(lambda self, x, *, scale=1.0: {"y": self.a(x) * scale}, a=linear())
    x = samples(4, 6)
    for batch in (x, (x,), [x], {"x": x}):
        torch.testing.assert_close(runner(model).run(batch).outputs, [model(x)["y"].detach()])
    doubled = runner(model).run({"x": x, "scale": torch.full((4, 1), 2.0)})
    torch.testing.assert_close(doubled.outputs, [2 * model(x)["y"].detach()])


def test_losses_run_as_they_would_in_training():
    model, x, y = linear(), samples(4, 6), samples(4, 6, seed=2)
    losses = runner(model, squared_errors(model)).run((x, y)).outputs[0]
    alone = [runner(model, squared_error(model)).run((x[i], y[i])).outputs[0] for i in range(4)]
    torch.testing.assert_close(losses, torch.stack(alone))


@pytest.mark.parametrize("loss_fn", [lambda p, x: x, dp.batched(lambda p, x: x.sum())])
def test_losses_of_a_wrong_shape_raise(loss_fn):
    with pytest.raises(ForwardError) as caught:
        runner(linear(), loss_fn).run(samples(4, 6))
    assert isinstance(caught.value.error, ValueError)


def test_the_parameters_that_nothing_uses():
    model = Written(lambda self, x: self.a(x), a=linear(), b=linear())
    assert runner(model).run(samples(4, 6), backward=True).unused == ["b.weight", "b.bias"]
    detached = Written(lambda self, x: self.a(x).detach(), a=linear())
    assert runner(detached).run(samples(4, 6), backward=True).unused == ["a.weight", "a.bias"]
    assert runner(nn.ReLU()).run(samples(4, 6), backward=True).unused == []


def test_data_written_to_are_told_and_stay():
    model = Written(lambda self, x, y: self.a(x) + y.relu_(), a=linear())
    x, y = samples(4, 6), samples(4, 6, seed=2)
    assert runner(model).run((x, y.clone())).touched == [1]
    kept = y.clone()
    runner(model).run((x, kept))
    assert torch.equal(kept, y)


def test_parameters_written_to_are_told():
    def forward(self, x):
        with torch.no_grad():
            self.a.weight.mul_(2.0)
        return self.a(x)

    assert runner(Written(forward, a=linear())).run(samples(4, 6)).written == ["a.weight"]


def test_every_run_draws_alike_unless_told_not_to():
    model = Written(lambda self, x: self.a(x) + torch.randn_like(x), a=linear())
    running, x = runner(model), samples(4, 6)
    first, second = running.run(x), running.run(x)
    assert torch.equal(first.outputs[0], second.outputs[0])
    assert not torch.equal(first.outputs[0], running.run(x, new_draws=True).outputs[0])


def test_dropout_is_left_out():
    model = nn.Sequential(linear(), nn.Dropout(0.5))
    x = samples(4, 6)
    torch.testing.assert_close(runner(model).run(x).outputs, [model[0](x).detach()])


def test_an_error_tells_the_innermost_layer():
    model = nn.Sequential(linear(), nn.Sequential(nn.Linear(5, 5)))
    with pytest.raises(ForwardError) as caught:
        runner(model).run(samples(4, 6))
    assert caught.value.path == "1.0"
    assert "shapes cannot be multiplied" in str(caught.value.error)


def test_an_error_in_the_backward_pass_is_one_too():
    def overwrites(self, x):
        y = self.a(x).exp()
        y.detach().zero_()
        return y + y.mul_(2.0)

    with pytest.raises(ForwardError, match="modified by an inplace operation"):
        runner(Written(overwrites, a=linear())).run(samples(4, 6), backward=True)


def test_nearby_parameters_keep_their_signs_and_leave_zero():
    params = {
        "weight": samples(20, 50),
        "gate": torch.zeros(4),
        "zero": torch.zeros(10, 100),
        "half": torch.ones(3, dtype=torch.float16),
        "complex": torch.ones(2, dtype=torch.complex64),
        "empty": torch.zeros(0, 3),
    }
    before = copy.deepcopy(params)
    moved = nearby(params)
    assert all(torch.equal(params[name], value) for name, value in before.items())
    for name in ("weight", "gate", "zero"):
        assert (moved[name] != params[name]).all(), name
    assert (moved["weight"].sign() == params["weight"].sign()).all()
    assert 0.05 < (moved["weight"] - params["weight"]).norm() / params["weight"].norm() < 0.2
    assert (moved["zero"] > 0).all()
    assert moved["zero"].mean() < 0.011
    assert moved["half"].dtype == torch.float16
    assert torch.equal(moved["complex"], params["complex"])
    assert moved["empty"].shape == (0, 3)
