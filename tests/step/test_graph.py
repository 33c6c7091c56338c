"""A captured graph: flat, without the data, and with sums in float64."""

import torch

from dpfunc.step.graph import captured


def test_a_graph_computes_what_the_function_does():
    def function(x, y):
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            (grad,) = torch.autograd.grad(torch.func.vmap(torch.dot)(x, leaf).square().sum(), leaf)
        return [grad, (x * y).sum(1)]

    graph = captured(function, [torch.zeros(5, 3), torch.zeros(5, 3)], fused=True)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    for actual, expected in zip(graph(x, y), function(x, y), strict=True):
        torch.testing.assert_close(actual, expected)
        assert actual.dtype == torch.float32


def test_float32_sums_are_added_in_float64_and_others_left_alone():
    def function(x, low, whole):
        return [x.sum(), x.sum(0), low.sum(0), whole.sum(0), x.mean()]

    inputs = [
        torch.ones(4, 2),
        torch.ones(4, dtype=torch.float16),
        torch.ones(4, dtype=torch.int32),
    ]
    graph = captured(function, inputs, fused=True)
    sums = [node for node in graph.graph.nodes if "sum" in str(node.target)]
    dtypes = [node.kwargs.get("dtype") for node in sums]
    assert dtypes == [torch.float64, torch.float64, None, None]
    results = graph(*inputs)
    assert [value.dtype for value in results] == [value.dtype for value in function(*inputs)]
    nearly = torch.full((10**6, 1), 0.1)
    graph = captured(lambda x: [x.sum(0)], [nearly], fused=True)
    assert abs(float(graph(nearly)[0]) / (10**6 * float(nearly[0].double())) - 1) < 1e-7


def test_capturing_reads_no_numbers():
    seen = []

    def function(x):
        seen.append(type(x).__name__)
        return [x + 1]

    captured(function, [torch.ones(2)], fused=True)
    assert "FakeTensor" in seen[0]
