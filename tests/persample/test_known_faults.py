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
from tests.persample.features import Loss, Product, numbers
from tests.persample.test_what_breaks import REFUSALS, assert_exact, looped

W = {"w": numbers(1, 3, 3)}
X = numbers(2, 4, 5, 3)


def size(y: Tensor) -> Tensor:
    """The sum of squares of a sample ``[T, d]``, or of each of ``[B, T, d]``."""
    return y.square().sum((-1, -2))


def of_module(module: nn.Module) -> tuple[Loss, Tensors]:
    module = module.double()
    return (lambda p, x: size(functional_call(module, p, (x,)))), dp.named_params(module)


def reads_requires_grad(params: Tensors, x: Tensor) -> Tensor:
    y = F.linear(x, params["w"])
    return size(y) if y.requires_grad else y.sum((-1, -2))


def with_a_backward_hook() -> tuple:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[1].register_full_backward_hook(lambda module, inner, outer: (2 * inner[0],))
    return of_module(model)


def changes_its_data(params: Tensors, x: Tensor) -> Tensor:
    return size(F.linear(x.add_(1.0), params["w"]))


COMPLEX = {"w": torch.complex(numbers(1, 3, 3), numbers(3, 3, 3))}
ONE_BIAS = {**W, "b": numbers(3, 1)}
LINEAR = {**W, "b": numbers(3, 5)}

WRONG = {
    "code that reads requires_grad": (reads_requires_grad, W),
    "a full backward hook of a module": with_a_backward_hook(),
    "complex parameters": (lambda p, x: size((x.to(p["w"].dtype) @ p["w"]).abs()), COMPLEX),
    "a bias of one number": (lambda p, x: size(F.linear(x, p["w"], p["b"])), ONE_BIAS),
    "torch.compile with the eager backend": (
        torch.compile(lambda p, x: size(F.linear(x, p["w"])), backend="eager"),
        W,
    ),
}


@pytest.mark.xfail(raises=AssertionError, reason="silently inexact", strict=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", WRONG)
def test_exact_or_refused(name):
    loss, params = WRONG[name]
    expected = looped(loss, params, X)
    try:
        assert_exact(loss, params, X, expected)
    except REFUSALS as error:
        print("refused:", error)


@pytest.mark.xfail(raises=AssertionError, reason="verified on views of the data", strict=True)
def test_data_changed_in_place_by_a_loss_of_the_whole_batch():
    expected = looped(changes_its_data, W, X.clone())
    try:
        assert_exact(dp.batched(changes_its_data), W, X.clone(), expected)
    except REFUSALS as error:
        print("refused:", error)


def longest_first(params: Tensors, x: Tensor, length: Tensor) -> Tensor:
    """Every loss depends on its sample alone; on the way the samples are in another order."""
    order = length.argsort(descending=True, stable=True)
    sorted_output = F.linear(x[order], params["w"]).sum(-1)
    return sorted_output[order.argsort()] + x @ params["v"]


@pytest.mark.xfail(raises=AssertionError, reason="order of the first three alone", strict=True)
def test_samples_reordered_by_data_that_the_verification_did_not_see():
    """The norms of different samples are taken together, and the sum moves by far more than 1."""
    size = 60
    length = torch.arange(size, 0, -1)
    length[:3] = size  # what is verified is in order as it is
    length[-1] = size + 1  # the last sample is the longest: it moves all others by one
    x = numbers(1, size, 3)
    x[::2] *= 1000.0
    params = {"w": numbers(2, 3, 3), "v": numbers(3, 3)}

    def clipped_sum(where: slice) -> Tensors:
        private = dp.PrivateGrad(
            dp.batched(longest_first),
            clip=dp.Clip(1.0),
            noise=dp.GaussianNoise(0.0, key=dp.key()),
            expected_batch_size=1,
        )
        return private.update(params, (x[where], length[where]), private.init(params))[0]

    try:
        with_last, without = clipped_sum(slice(None)), clipped_sum(slice(size - 1))
    except REFUSALS as error:
        print("refused:", error)
        return
    moved = sum((with_last[name] - without[name]).square().sum() for name in params).sqrt()
    assert moved <= 1.0 + 1e-6


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized(layer: nn.Module, name: str = "weight") -> tuple:
    nn.utils.parametrize.register_parametrization(layer, name, Doubled())
    return of_module(layer)


def recurrent(layer: nn.Module) -> tuple:
    nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    layer = layer.double()
    return (lambda p, x: size(functional_call(layer, p, (x,))[0])), dp.named_params(layer)


def projected() -> tuple:
    layer = nn.LSTM(3, 4, proj_size=2, batch_first=True).double()
    return (lambda p, x: size(functional_call(layer, p, (x,))[0])), dp.named_params(layer)


def masked_attention(params: Tensors, x: Tensor) -> Tensor:
    heads = (x @ params["w"])[None, None]
    return F.scaled_dot_product_attention(heads, heads, heads, params["m"]).square().sum()


REFUSED = {
    "weight norm": (*of_module(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))), "vmap"),
    "a parametrized layer": (*parametrized(nn.Linear(3, 2)), "vmap"),
    "a linear map made from data": (
        lambda p, x: size(F.linear(x, x @ p["w"], p["b"])),
        LINEAR,
        "vmap",
    ),
    "an LSTM with a parametrized weight": (*recurrent(nn.LSTM(3, 4, batch_first=True)), "vmap"),
    "an LSTM with projections": (*projected(), "vmap"),
    "mm with keywords": (lambda p, x: size(torch.mm(input=x, mat2=p["w"])), W, "vmap"),
    "attention with a parameter as its mask": (
        masked_attention,
        {**W, "m": numbers(4, 5, 5)},
        "vmap",
    ),
    "complex activations": (
        lambda p, x: size(F.linear(torch.fft.fft(x), p["w"].to(torch.complex128)).abs()),
        W,
        "batch",
    ),
    "a custom function of a parameter": (
        lambda p, x: size(Product.apply(x, p["w"][0])),
        W,
        "batch",
    ),
}


@pytest.mark.xfail(raises=REFUSALS, reason="refused", strict=True)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name, case in REFUSED.items() if case[2] != "batch"])
def test_should_work_on_one_sample(name):
    loss, params, _ = REFUSED[name]
    assert_exact(loss, params, X, looped(loss, params, X))


@pytest.mark.xfail(raises=REFUSALS, reason="refused", strict=True)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name, case in REFUSED.items() if case[2] == "batch"])
def test_should_work_on_the_whole_batch(name):
    loss, params, _ = REFUSED[name]
    assert_exact(dp.batched(loss), params, X, looped(loss, params, X))
