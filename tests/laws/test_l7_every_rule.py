"""L7 for every rule: factored = dense = a Python loop, in every dtype, by vmap and whole batch."""

import pytest
import torch
from torch import Tensor

import dpfunc as dp
from dpfunc.persample import factored
from dpfunc.persample.definition.dense import per_sample_grad
from dpfunc.persample.watching.capture import Rule
from tests.laws.test_l7_oracle import looped
from tests.laws.uses import SAMPLES, USES


def looked_at(params: dict[str, Tensor], x: Tensor) -> Tensor:
    """What tools ask of a tensor, in a loss of one sample: see tests/persample/test_tools.py."""
    y = params["w"] * x
    if y.grad_fn is not None:
        y.register_hook(lambda grad: grad)
    return y.sum()


MODES = {
    "one sample": lambda use: use.loss,
    "whole batch": lambda use: dp.batched(use.losses),
}
# vmap has no rule for F.bilinear and F.embedding_bag, and says that it runs them in a loop;
# PyTorch, that projections take another implementation.
pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:LSTM with projections"
)
CASES = [
    pytest.param(mode, name, id=f"{name}, {mode}")
    for mode in MODES
    for name, use in USES.items()
    if mode == "one sample" or use.whole_batch
]
UNIT = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}


def norms(rows: Tensor) -> Tensor:
    """``[B]``: of gradients ``[B, *shape]``, in float64."""
    return rows.double().reshape(len(rows), -1).norm(dim=1)


def summed(grads, name: str) -> Tensor:
    """``[B, *shape]``: what each sample adds to a sum."""
    return torch.stack([grads[name].weighted_sum(one) for one in torch.eye(SAMPLES)])


@pytest.mark.parametrize(("mode", "name"), CASES)
def test_exact_in_float64(mode, name):
    use = USES[name]
    expected, losses = looped(use.loss, use.params, use.batch)
    grads, factored_losses = dp.factored_grad(MODES[mode](use))(use.params, *use.batch)
    dense = per_sample_grad(use.loss)(use.params, *use.batch) if use.by_vmap else expected
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(factored_losses, losses, **close)
    weights = torch.linspace(0.0, 1.5, SAMPLES, dtype=torch.float64)
    for name, rows in expected.items():
        torch.testing.assert_close(dense[name], rows, **close)
        torch.testing.assert_close(grads[name].dense(), rows, **close)
        torch.testing.assert_close(grads[name].norm_sq().sqrt(), norms(rows), **close)
        of_rows = torch.einsum("b,b...->...", weights, rows)
        torch.testing.assert_close(grads[name].weighted_sum(weights), of_rows, **close)


@pytest.mark.parametrize(("mode", "name"), CASES)
@pytest.mark.parametrize("dtype", UNIT, ids=str)
def test_as_close_as_the_dtype_allows(mode, name, dtype):
    """And a norm is that of what is summed, both in float32, whatever the model is in.

    Exact is a loop in float64 over the numbers as they are rounded to the dtype.

    Loop and engine run the same operations forward and back to the output that is tapped. Each
    rounds, by u of what it returns (u the unit roundoff), and those after it (a softmax, gates)
    enlarge that: how far a loop in the dtype is off, at worst, says by how much. The engine may be
    off by twice that, its samples being rounded in other places; and by four times u of the terms
    that a gradient is the sum of: for its input, the output, the output's gradient and what becomes
    of it, each rounded once, where the sums over them are of float32 at least.
    """
    low = USES[name].to(dtype)
    back = low.to(torch.float64)
    expected, _ = looped(back.loss, back.params, back.batch)
    terms, _ = dp.factored_grad(MODES[mode](back))(back.params, *back.batch)
    loop, _ = looped(low.loss, low.params, low.batch)
    grads, _ = dp.factored_grad(MODES[mode](low))(low.params, *low.batch)
    dense = per_sample_grad(low.loss)(low.params, *low.batch) if low.by_vmap else loop
    for name, rows in expected.items():
        strays = norms(loop[name].double() - rows).max()
        allowed = 2 * strays + 4 * UNIT[dtype] * terms[name].sizes().max()
        added, norm_sq = summed(grads, name), grads[name].norm_sq()
        assert (norms(added.double() - rows) <= allowed).all()
        assert (norms(dense[name].double() - rows) <= allowed).all()
        assert added.dtype == norm_sq.dtype == torch.float32
        torch.testing.assert_close(norm_sq.sqrt().double(), norms(added), rtol=1e-6, atol=0.0)


def test_there_is_a_use_of_every_rule(monkeypatch):
    """And it is served by the rule, not handed on."""
    served = set()

    def noting(function: object, rule: Rule) -> Rule:
        def run(*args: object, **kwargs: object) -> object:
            result = rule.run(*args, **kwargs)
            if result is not NotImplemented:
                served.add(function)
            return result

        return Rule(run, rule.always)

    noted = {function: noting(function, rule) for function, rule in factored.RULES.items()}
    monkeypatch.setattr(factored, "RULES", noted)
    for use in USES.values():
        dp.factored_grad(use.loss)(use.params, *use.batch)
    dp.factored_grad(looked_at)({"w": torch.ones(3)}, torch.ones(2, 3))
    assert [function for function in noted if function not in served] == []
