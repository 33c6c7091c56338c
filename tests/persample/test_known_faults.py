"""What the factored engine gets wrong, or refuses although it should not; each is to be mended.

Strict: a fault that is mended turns red here, and moves to where it then belongs.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dpfunc as dp
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
