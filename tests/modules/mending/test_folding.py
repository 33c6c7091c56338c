import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dpfunc as dp
from dpfunc.modules.mending.folding import Affine, folded


def batch_norm(channels, seed, eps=1e-5):
    """With running statistics and a scale and shift that differ much between channels."""
    layer = nn.BatchNorm2d(channels, eps=eps).double().eval()
    draws = dp.normal(dp.key(seed), (4, channels), dtype=torch.float64)
    with torch.no_grad():
        layer.running_mean.copy_(draws[0])
        layer.running_var.copy_((2 * draws[1]).exp())
        layer.weight.copy_(draws[2])
        layer.bias.copy_(draws[3])
    return layer


def typical_sample(layer, groups, seed, positions=50):
    """A sample with the pooled statistics in every group, but none of its channels typical."""
    mean, var = (part.reshape(groups, -1) for part in (layer.running_mean, layer.running_var))
    mean_g = mean.mean(1)
    var_g = (var + mean.square()).mean(1) - mean_g.square()
    shape = (groups, mean.shape[1] * positions)
    values = dp.normal(dp.key(seed), shape, dtype=torch.float64)
    values = (values - values.mean(1, keepdim=True)) / values.std(1, correction=0, keepdim=True)
    values = values * var_g.sqrt()[:, None] + mean_g[:, None]
    return values.reshape(1, -1, 5, positions // 5)


@given(
    groups=st.sampled_from([1, 2, 3]),
    each=st.integers(1, 5),
    seed=st.integers(0, 1000),
    eps=st.sampled_from([1e-5, 1e-2, 1.0]),
)
def test_outputs_are_equal_for_samples_with_the_pooled_statistics(groups, each, seed, eps):
    layer = batch_norm(groups * each, seed, eps)
    affine = Affine(layer.weight, layer.bias)
    scale, shift = folded(
        affine, layer.running_mean, layer.running_var, groups=groups, eps=layer.eps
    )
    x = typical_sample(layer, groups, seed + 1)
    actual = nn.functional.group_norm(x, groups, scale, shift, eps)
    torch.testing.assert_close(actual, layer(x))


def test_the_difference_for_other_samples_is_the_one_that_is_documented():
    layer = batch_norm(6, seed=3)
    mean, var = layer.running_mean.reshape(2, 3), layer.running_var.reshape(2, 3)
    scale, shift = folded(
        Affine(layer.weight, layer.bias),
        layer.running_mean,
        layer.running_var,
        groups=2,
        eps=layer.eps,
    )
    x = 3 + 2 * dp.normal(dp.key(4), (1, 6, 5, 5), dtype=torch.float64)
    difference = layer(x) - nn.functional.group_norm(x, 2, scale, shift, layer.eps)
    grouped = x.reshape(2, 75)
    own_mean = grouped.mean(1).repeat_interleave(3)[:, None, None]
    own = (grouped.var(1, correction=0) + layer.eps).sqrt().repeat_interleave(3)[:, None, None]
    mean_g = mean.mean(1)
    var_g = (var + mean.square()).mean(1) - mean_g.square()
    pooled = (var_g + layer.eps).sqrt().repeat_interleave(3)[:, None, None]
    pooled_mean = mean_g.repeat_interleave(3)[:, None, None]
    factor = (layer.weight / (layer.running_var + layer.eps).sqrt())[:, None, None]
    expected = factor * ((x - pooled_mean) - (x - own_mean) * pooled / own)
    torch.testing.assert_close(difference, expected)


def test_one_channel_a_group_has_nothing_to_fold():
    layer = batch_norm(4, seed=5)
    scale, shift = folded(
        Affine(layer.weight, layer.bias), layer.running_mean, layer.running_var, groups=4, eps=1e-5
    )
    torch.testing.assert_close(scale, layer.weight)
    torch.testing.assert_close(shift, layer.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_has_the_dtype_of_the_scale_and_shift(dtype):
    affine = Affine(torch.ones(4, dtype=dtype), torch.zeros(4, dtype=dtype))
    scale, shift = folded(affine, torch.arange(4.0), torch.ones(4), groups=2, eps=1e-5)
    assert (scale.dtype, shift.dtype) == (dtype, dtype)
    assert (scale.shape, shift.shape) == ((4,), (4,))


def test_a_channel_that_never_varied_stays_finite():
    affine = Affine(torch.ones(2), torch.zeros(2))
    scale, shift = folded(
        affine, torch.tensor([0.0, 1e4]), torch.tensor([0.0, 1.0]), groups=1, eps=1e-5
    )
    assert scale.isfinite().all()
    assert shift.isfinite().all()
