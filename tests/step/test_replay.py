"""A replayed graph does all that was captured, and nothing that changes nothing."""

import torch

import dpfunc as dp
from dpfunc.step.graph import captured
from dpfunc.step.replay import replayed


def test_what_is_written_in_place_is_written():
    """Nobody reads the result of the writing call; the memory is read through another view."""

    def function(x):
        whole = x.clone()
        row = whole.view(-1)[:2]
        row.add_(1)
        whole.detach().mul_(3)
        return [whole]

    run = replayed(captured(function, [torch.zeros(2, 2)], fused=False))
    x = torch.randn(2, 2)
    assert torch.equal(run(x)[0], function(x)[0])
    assert torch.equal(run(x)[0], function(x)[0])  # the input is as it was


def test_calls_that_change_nothing_are_gone():
    def function(x):
        unused = x.exp()
        assert unused is not None
        return [x.detach().view(2, 3).expand(2, 3).t().t() * 2]

    graph = captured(function, [torch.zeros(2, 3)], fused=False)
    replayed(graph)
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert names == ["aten.t.default", "aten.t.default", "aten.mul.Tensor"]


def test_a_view_of_other_strides_stays():
    def function(x):
        return [x.expand(3, 2), x.view(2, 1)]

    run = replayed(captured(function, [torch.zeros(2)], fused=False))
    assert [tuple(part.shape) for part in run(torch.ones(2))] == [(3, 2), (2, 1)]


def test_it_needs_no_compiler(monkeypatch):
    def compiler(*args, **kwargs):
        raise AssertionError("called")

    monkeypatch.setattr(torch, "compile", compiler)
    private = dp.PrivateGrad(
        lambda params, x: (params["w"] * x).sum(),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(0.0, key=dp.key(1)),
        expected_batch_size=2,
    )
    fast = dp.compile(private, backend="replay")
    params = {"w": torch.zeros(3)}
    for x in (torch.randn(4, 3), torch.randn(4, 3)):
        expected = private.update(params, x, private.init(params))[0]
        torch.testing.assert_close(fast.update(params, x, fast.init(params))[0], expected)
    assert fast.graph_count == 1
