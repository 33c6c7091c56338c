import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dpfunc as dp
from dpfunc.persample.factors.forms import Dense
from dpfunc.persample.factors.outer import Outer
from dpfunc.persample.factors.scatter import Scatter
from dpfunc.types import Weights

SHAPES = [(), (3,), (2, 3), (2, 0)]


@given(size=st.integers(0, 4), shape=st.sampled_from(SHAPES), seed=st.integers(0, 50))
def test_norms_and_sums_equal_a_loop(size, shape, seed):
    grad = dp.normal(dp.key(seed), (size, *shape), dtype=torch.float64)
    weight = dp.normal(dp.key(seed + 1), (size,), dtype=torch.float64).abs()
    norms = dp.leaf_norms({"p": grad})["p"]
    summed = dp.weighted_sum({"p": grad}, Weights({"p": weight}, 1.0)).values["p"]
    expected = sum((w * g for w, g in zip(weight, grad, strict=True)), torch.zeros(shape).double())
    assert norms.tolist() == pytest.approx([row.norm().item() for row in grad])
    torch.testing.assert_close(summed, expected)


def test_dense_tensors_and_factors_are_alike():
    grad, weights = torch.ones(2, 3), Weights({"p": torch.tensor([1.0, 2.0])}, 1.0)
    assert torch.equal(dp.leaf_norms({"p": grad})["p"], dp.leaf_norms({"p": Dense(grad)})["p"])
    left, right = (dp.weighted_sum({"p": form}, weights) for form in (grad, Dense(grad)))
    assert torch.equal(left.values["p"], right.values["p"])
    assert Dense(grad).dense() is grad


def test_the_bound_goes_through():
    assert dp.weighted_sum({"p": torch.ones(1, 1)}, Weights({"p": torch.ones(1)}, 0.7)).bound == 0.7


def test_the_global_norm_is_the_norm_of_the_norms():
    norms = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0, math.inf])}
    assert dp.global_norm(norms).tolist() == [5.0, math.inf]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    grad = torch.full((1, 70_000), 10.0, dtype=dtype)  # the sum of squares overflows float16
    norms = dp.leaf_norms({"p": grad})["p"]
    assert norms.dtype == torch.float32
    assert norms.item() == pytest.approx(10 * 70_000**0.5, rel=1e-5)
    many = torch.ones(3000, 1, dtype=dtype)  # bfloat16 cannot count past 256
    summed = dp.weighted_sum({"p": many}, Weights({"p": torch.ones(3000)}, 1.0))
    assert summed.values["p"].tolist() == [3000.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weight_zero_adds_exactly_zero(bad):
    grad = torch.tensor([[1.0, 2.0], [bad, bad]])
    summed = dp.weighted_sum({"p": grad}, Weights({"p": torch.tensor([1.0, 0.0])}, 1.0))
    assert summed.values["p"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "c"]])
def test_every_parameter_needs_its_weights(names):
    grads = {"a": torch.ones(2, 1), "b": torch.ones(2, 1)}
    with pytest.raises(ValueError, match=r"expected weights for exactly the parameters"):
        dp.weighted_sum(grads, Weights({n: torch.ones(2) for n in names}, 1.0))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_every_sample_needs_its_weight(size):
    rows = torch.ones(2, 1, 3)
    for grad in (torch.ones(2, 3), Dense(torch.ones(2, 3)), Outer(rows, rows)):
        with pytest.raises(ValueError, match="expected one weight for each of the 2 samples"):
            dp.weighted_sum({"a": grad}, Weights({"a": torch.ones(size)}, 1.0))


def test_weights_must_carry_a_bound():
    with pytest.raises(TypeError, match="expected Weights from a clip rule but got 'dict'"):
        dp.weighted_sum({"a": torch.ones(2, 1)}, {"a": torch.ones(2)})
    with pytest.raises(ValueError, match="at least one parameter"):
        dp.global_norm({})


def test_a_sum_of_lookups_takes_mapped_weights_and_slices_of_any_size(monkeypatch):
    """Several sums of the same gradients at once, by vmap; slices of one sample change nothing."""
    index, rows = torch.tensor([[0, 2], [2, 2], [1, 0]]), dp.normal(dp.key(1), (3, 2, 4))
    weights = torch.tensor([[1.0, -0.5, 0.0], [0.25, 2.0, 3.0]])
    grads = Scatter(index, rows, 5)
    expected = torch.einsum("wb,bvd->wvd", weights, grads.dense())
    torch.testing.assert_close(torch.vmap(grads.weighted_sum)(weights), expected)
    monkeypatch.setattr("dpfunc.persample.factors.cost._CPU_SLICE", 1)
    torch.testing.assert_close(torch.stack(list(map(grads.weighted_sum, weights))), expected)
