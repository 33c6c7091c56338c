import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc.random.continuous as module
from dpfunc.random.continuous import laplace, normal, uniform
from dpfunc.random.keys import key
from tests.devices import DEVICES

DRAWS = [uniform, normal, laplace]
DTYPES = [torch.float32, torch.float64]
UNLIKELY = 1e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_normal(dtype, device):
    z = normal(key(4), (1000, 1001), dtype=dtype, device=device).double().cpu().numpy().flatten()
    n = z.size
    assert stats.kstest(z, "norm").pvalue > 1e-5
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - moment) < 4.5 * (variance / n) ** 0.5
    beyond = (abs(z) > 4).sum()
    assert 1e-5 < stats.binom.cdf(beyond, n, 2 * stats.norm.sf(4)) < 1 - 1e-5
    assert abs(np.corrcoef(z[: n // 2], z[n - n // 2 :])[0, 1]) < 4.5 / (n / 2) ** 0.5  # cos, sin


@pytest.mark.parametrize("device", DEVICES)
def test_normals_agree_across_devices_up_to_rounding(device):
    here = normal(key(4), (1000,), device=device).cpu()
    torch.testing.assert_close(here, normal(key(4), (1000,)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2**17 - 1, 2**17, 2**17 + 1, 5 * 2**17 + 3])
def test_values_do_not_depend_on_the_runs_they_are_made_in(dtype, count, monkeypatch):
    """A CPU makes them in turn; a GPU, here played by the CPU, all of them together."""
    in_turn = normal(key(4), (count,), dtype=dtype)
    monkeypatch.setattr(module, "runs", lambda pairs, device: [slice(0, pairs)])
    assert torch.equal(normal(key(4), (count,), dtype=dtype), in_turn)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniforms_are_uniform_and_fill_their_width(dtype, device):
    u = uniform(key(5), (10**6,), dtype=dtype, device=device).double().cpu().numpy()
    assert stats.kstest(u, "uniform").pvalue > UNLIKELY
    width = 24 if dtype == torch.float32 else 53
    assert u.min() >= 0
    assert u.max() < 1
    assert (u * 2.0**width % 1 == 0).all()
    assert abs((u * 2.0**width % 2).mean() - 0.5) < 5 * 0.5 / 1e3  # the last bit is used


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_laplace_variables_are_laplace(dtype, device):
    x = laplace(key(6), (10**6,), dtype=dtype, device=device).double().cpu().numpy()
    assert stats.kstest(x, "laplace").pvalue > UNLIKELY
    assert stats.binomtest(int((abs(x) > 10).sum()), x.size, np.exp(-10)).pvalue > UNLIKELY


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 0, 3), (3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_shape_is_the_one_asked_for(draw, shape, dtype):
    z = draw(key(1), shape, dtype=dtype)
    assert (z.shape, z.dtype) == (shape, dtype)
    assert z.isfinite().all()


def test_normal_is_a_pure_function():
    assert torch.equal(normal(key(1), (9,)), normal(key(1), (9,)))
    torch.manual_seed(0)
    first = normal(key(1), (9,))
    torch.manual_seed(1)
    assert torch.equal(first, normal(key(1), (9,)))


@pytest.mark.parametrize("draw", DRAWS)
def test_half_precision_is_refused(draw):
    with pytest.raises(ValueError, match="expected dtype float32 or float64"):
        draw(key(1), (2,), dtype=torch.float16)
