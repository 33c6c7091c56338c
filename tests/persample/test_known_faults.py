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


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized(layer: nn.Module, name: str = "weight") -> tuple:
    nn.utils.parametrize.register_parametrization(layer, name, Doubled())
    return of_module(layer)


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
