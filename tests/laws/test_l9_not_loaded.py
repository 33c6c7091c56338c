"""L9: a step loads no compiler; and a loss that loads one, to compile itself, is run eagerly.

Each in a process of its own: once torch's compiler is loaded, it stays.
"""

import subprocess
import sys

import pytest

STEP = """
import sys, torch, dpfunc as dp
def inner(w, x):
    return torch.tanh(w @ x)
{compiled}
def loss(params, x):
    return (torch.tensor([1.0, -2.0, 0.5]) * {name}(params["w"], x)).sum()
w, x = dp.normal(dp.key(0), (3, 4)), dp.normal(dp.key(1), (5, 4))
private = dp.PrivateGrad(
    loss, clip=dp.Clip(1e9), noise=dp.GaussianNoise(0.0, key=dp.key(2)), expected_batch_size=5
)
grads, *_ = private.update({{"w": w}}, (x,), private.init({{"w": w}}))
right = torch.tensor([1.0, -2.0, 0.5])[:, None] * (1 - torch.tanh(w @ x.T) ** 2) @ x / 5
print("torch._dynamo" in sys.modules, bool(torch.allclose(grads["w"], right, atol=1e-6)))
"""
LATE = """
def wrong(graph, inputs):
    return lambda *given: [0 * output for output in graph(*given)]
def late(w, x):
    return torch.compile(inner, backend=wrong)(w, x)
"""
"""Compiled, it would be nothing."""


@pytest.mark.parametrize(
    ("compiled", "name", "said"), [("", "inner", "False True"), (LATE, "late", "True True")]
)
def test_in_a_process_that_has_no_compiler(compiled, name, said):
    code = STEP.format(compiled=compiled, name=name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == said, run.stderr
