"""L7: every keyword of every function with a rule is exact off its default, or refused by name."""

import pytest
import torch
from torch import Tensor

import dpfunc as dp
from dpfunc.persample.rules import RULES
from tests.laws.keywords import CALLS, Call, left_out
from tests.laws.uses import SAMPLES

REFUSALS = (RuntimeError, ValueError, NotImplementedError)
pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:LSTM with projections",
    "ignore:Using padding='same'",
)  # fmt: skip


def name_of(call: Call) -> str:
    return f"{getattr(call.function, '__qualname__', call.function.__name__)}: {call.changed}"


def by_hand(call: Call) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient and the loss of each sample by plain autograd."""
    use = call._replace(run=call.by_hand or call.run).use()
    rows: dict[str, list[Tensor]] = {name: [] for name in use.params}
    losses = []
    for i in range(SAMPLES):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in use.params.items()}
        loss = use.loss(leaves, *(part[i] for part in use.batch))
        grads = torch.autograd.grad(loss, list(leaves.values()))
        for name, grad in zip(leaves, grads, strict=True):
            rows[name].append(grad.to_dense())  # that of nn.Embedding(sparse=True) is not
        losses.append(loss.detach())
    return {name: torch.stack(part) for name, part in rows.items()}, torch.stack(losses)


CASES = [
    pytest.param(call, whole, id=f"{name_of(call)}, {'whole batch' if whole else 'one sample'}")
    for whole in (False, True)
    for call in CALLS
    if call.whole_batch or not whole
]


@pytest.mark.parametrize(("call", "whole"), CASES)
def test_exact_or_refused(call, whole):
    use = call.use()
    loss = dp.batched(use.losses) if whole else use.loss
    refused = call.refused or (call.as_batch if whole else "")
    if refused:
        with pytest.raises(REFUSALS, match=refused):
            dp.factored_grad(loss)(use.params, *use.batch)
        return
    expected, expected_losses = by_hand(call)
    grads, losses = dp.factored_grad(loss)(use.params, *use.batch)
    weights, close = torch.tensor([0.0, 1.5, -0.7]).double(), {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(losses, expected_losses, **close)
    for name, rows in expected.items():
        assert rows.abs().max() > 0
        norm_sq, summed = rows.flatten(1).square().sum(1), torch.tensordot(weights, rows, 1)
        torch.testing.assert_close(grads[name].dense(), rows, **close)
        torch.testing.assert_close(grads[name].norm_sq(), norm_sq, **close)
        torch.testing.assert_close(grads[name].weighted_sum(weights), summed, **close)


TAKES_NO_KEYWORDS = {"__get__", "__rmatmul__", "__setitem__", "cond", "register_hook"}


@pytest.mark.parametrize(
    "function",
    [rule for rule in RULES if rule.__name__ not in TAKES_NO_KEYWORDS],
    ids=lambda function: getattr(function, "__qualname__", function.__name__),
)
def test_no_keyword_is_left_out(function):
    """Of those that PyTorch states: a new one has to be exercised before this is green again."""
    assert left_out(function) == set()
