"""What the factored engine gets wrong, or refuses although it should not; each is to be mended.

Strict: a fault that is mended turns red here, and moves to where it then belongs.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import dpfunc as dp
from dpfunc.types import Tensors
from tests.persample.features import Product, numbers
from tests.persample.test_what_breaks import REFUSALS, assert_exact, looped

W = {"w": numbers(1, 3, 3)}
X = numbers(2, 4, 5, 3)


def size(y: Tensor) -> Tensor:
    """The sum of squares of a sample ``[T, d]``, or of each of ``[B, T, d]``."""
    return y.square().sum((-1, -2))


@pytest.mark.xfail(raises=AssertionError, reason="silently inexact", strict=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_loss_compiled_with_the_debugging_backend_eager():
    loss = torch.compile(lambda p, x: size(F.linear(x, p["w"])), backend="eager")
    assert_exact(loss, W, X, looped(loss, W, X))


def placed(x: Tensor, order: Tensor) -> Tensor:
    return F.one_hot(order, len(order)).to(x.dtype)


REORDERINGS = {
    "stack": lambda x, order: torch.stack([x[int(i)] for i in order]),
    "cat": lambda x, order: torch.cat([x.split(1)[int(i)] for i in order]),
    "a permutation matrix": lambda x, order: placed(x, order) @ x,
    "einsum": lambda x, order: torch.einsum("ij,j...->i...", placed(x, order), x),
    "embedding": lambda x, order: F.embedding(order, x.reshape(len(x), -1)).reshape(x.shape),
    "an index of NumPy": lambda x, order: x[order.numpy()],
    "index_put": lambda x, order: torch.zeros_like(x).index_put((order.argsort(),), x),
}


@pytest.mark.xfail(raises=AssertionError, reason="samples are taken for others", strict=True)
@pytest.mark.parametrize("name", REORDERINGS)
def test_samples_reordered_by_data(name):
    """Longest first and back again, where the three samples that are verified are in order."""
    reorder = REORDERINGS[name]

    def loss(params: Tensors, x: Tensor) -> Tensor:
        order = x[..., 0].reshape(-1).argsort(descending=True, stable=True)
        rows = x.reshape(-1, 3)
        sorted_losses = F.linear(reorder(rows, order), params["w"]).sum(-1)
        losses = reorder(sorted_losses, order.argsort())
        return (losses + rows @ params["v"]).reshape(x.shape[:-1])

    x = numbers(5, 12, 3)
    x[:, 0] = torch.arange(12.0).flip(0)
    x[:3, 0] = 20.0
    x[-1, 0] = 30.0
    params = {**W, "v": numbers(4, 3)}
    try:
        assert_exact(dp.batched(loss), params, x, looped(loss, params, x))
    except REFUSALS as error:
        print("refused:", error)


ZEROS_FIRST = torch.cat([torch.zeros(3, 5, 3, dtype=torch.float64), X])


@pytest.mark.xfail(raises=AssertionError, reason="all that is verified is zero", strict=True)
def test_samples_mixed_where_those_that_are_verified_are_zero():
    def mixing(params: Tensors, x: Tensor) -> Tensor:
        y = F.linear(x, params["w"])
        return size(y) + y.mean() ** 2

    expected = looped(lambda p, x: mixing(p, x[None])[0], W, ZEROS_FIRST)
    try:
        assert_exact(dp.batched(mixing), W, ZEROS_FIRST, expected)
    except REFUSALS as error:
        print("refused:", error)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def recurrent(layer: nn.Module) -> tuple:
    nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    layer = layer.double()
    return (lambda p, x: size(functional_call(layer, p, (x,))[0])), dp.named_params(layer)


def projected() -> tuple:
    layer = nn.LSTM(3, 4, proj_size=2, batch_first=True).double()
    return (lambda p, x: size(functional_call(layer, p, (x,))[0])), dp.named_params(layer)


BY_VMAP = {
    "an LSTM with a parametrized weight": recurrent(nn.LSTM(3, 4, batch_first=True)),
    "an LSTM with projections": projected(),
}


@pytest.mark.xfail(raises=REFUSALS, reason="refused", strict=True)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", BY_VMAP)
def test_should_work_on_one_sample(name):
    loss, params = BY_VMAP[name]
    assert_exact(loss, params, X, looped(loss, params, X))


BY_BATCH = {
    "complex activations": lambda p, x: size(
        F.linear(torch.fft.fft(x), p["w"].to(torch.complex128)).abs()
    ),
    "a custom function of a parameter": lambda p, x: size(Product.apply(x, p["w"][0])),
}


@pytest.mark.xfail(raises=REFUSALS, reason="refused", strict=True)
@pytest.mark.parametrize("name", BY_BATCH)
def test_should_work_on_the_whole_batch(name):
    assert_exact(dp.batched(BY_BATCH[name]), W, X, looped(BY_BATCH[name], W, X))
