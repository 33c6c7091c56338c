"""L2: what is released without data is Gaussian noise of the promised scale, fresh everywhere."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import dpfunc as dp
from dpfunc.random.keys import bits
from tests.laws.matrix import (
    DEVICES,
    ENGINE_NAMES,
    MAX_NORM,
    MICROBATCHES,
    NOISES,
    WIDENED,
    expected_distinct,
    flat,
)

SIGMA, DIVISOR, STEPS = 1.7, 20.0, 4
SHAPES = {"w": (200, 150), "b": (20_000,), "v": (10, 10, 300)}
UNLIKELY = 1e-5  # fixed keys: a green test stays green


def zero_loss(params, x):
    return sum((param * 0.0).sum() for param in params.values()) + x.sum() * 0.0


def releases(noise, engine, microbatch, device, dtype=torch.float32, seed=3, batch=5):
    """{name: [STEPS, numel]} of normalised releases: standard normal if the law holds."""
    params = {n: torch.ones(s, dtype=dtype, device=device) for n, s in SHAPES.items()}
    private = dp.PrivateGrad(
        zero_loss,
        clip=dp.Clip(MAX_NORM),
        noise=NOISES[noise](SIGMA, key=dp.key(seed)),
        expected_batch_size=DIVISOR,
        microbatch_size=microbatch,
        engine=engine,
    )
    state = private.init(params)
    steps = []
    for _ in range(STEPS):
        data = torch.ones(batch, 3, dtype=dtype, device=device)
        grads, state, _ = private.update(params, data, state)
        steps.append(grads)
    scale = DIVISOR / (SIGMA * MAX_NORM * WIDENED)
    return {
        name: torch.stack([grads[name].double().cpu().flatten() for grads in steps]).numpy() * scale
        for name in SHAPES
    }


EVERYWHERE = [
    pytest.mark.parametrize("device", DEVICES),
    pytest.mark.parametrize("microbatch", MICROBATCHES),
    pytest.mark.parametrize("engine", ENGINE_NAMES),
    pytest.mark.parametrize("noise", NOISES),
]


def everywhere(test):
    for mark in EVERYWHERE:
        test = mark(test)
    return test


@everywhere
def test_the_sum_of_squares_is_chi_square_for_every_parameter_and_step(
    noise, engine, microbatch, device
):
    for values in releases(noise, engine, microbatch, device).values():
        for step in values:
            tail = stats.chi2.cdf((step**2).sum(), df=step.size)
            assert UNLIKELY < tail < 1 - UNLIKELY
            assert stats.kstest(step, "norm").pvalue > UNLIKELY


@everywhere
def test_no_correlation_across_steps_or_parameters(noise, engine, microbatch, device):
    values = releases(noise, engine, microbatch, device)
    size = min(v.shape[1] for v in values.values())
    streams = [step[:size] for v in values.values() for step in v]
    for left, right in itertools.combinations(streams, 2):
        assert abs(np.corrcoef(left, right)[0, 1]) * math.sqrt(size) < 4.5


@everywhere
def test_noise_does_not_depend_on_the_batch(noise, engine, microbatch, device):
    one = releases(noise, engine, microbatch, device, batch=1)
    many = releases(noise, engine, microbatch, device, batch=7)
    assert all((one[name] == many[name]).all() for name in SHAPES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", NOISES)
def test_as_many_values_are_distinct_as_the_grid_allows(noise, dtype):
    """Repeated noise has fewer of them; a grid finer or coarser than promised, more or fewer."""
    values = releases(noise, "auto", None, "cpu", dtype=dtype)
    together = np.concatenate([v.flatten() for v in values.values()])
    bound = MAX_NORM / DIVISOR  # the sum comes out divided
    deviation = SIGMA * WIDENED * bound
    grid = 2.0 ** math.floor(math.log2(deviation)) * 2.0**-6
    expected, spread = expected_distinct(together.size, deviation / grid)
    assert abs(np.unique(together).size - expected) < 4.5 * spread


@pytest.mark.parametrize("noise", NOISES)
def test_keys_decide_the_noise(noise):
    ours, again, other = (
        releases(noise, "auto", None, "cpu", seed=seed)["b"] for seed in (3, 3, 4)
    )
    assert (ours == again).all()
    assert abs(np.corrcoef(ours.flatten(), other.flatten())[0, 1]) * math.sqrt(ours.size) < 4.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_get_noise_drawn_in_float32(dtype):
    half = releases("GaussianNoise", "auto", None, "cpu", dtype=dtype)["b"]
    single = releases("GaussianNoise", "auto", None, "cpu")["b"]
    np.testing.assert_allclose(half, single, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("draw", ["float32", "float64", "rounded"])
def test_moments_to_the_sixth_and_tails(draw):
    """`benchmarks/randomness.py --law` does the same over 10**8 draws."""
    size, scale = 2**22, 2.0**21
    if draw == "rounded":
        z = dp.rounded_normal(dp.key(1), (size,), scale=scale).numpy() / scale
    else:
        z = dp.normal(dp.key(2), (size,), dtype=getattr(torch, draw)).double().numpy()
    even = {0: 1, 2: 1, 4: 3, 6: 15, 8: 105, 10: 945, 12: 10395}
    for power in range(1, 7):
        moment = even.get(power, 0)
        deviation = math.sqrt((even[2 * power] - moment**2) / size)
        assert abs((z**power).mean() - moment) < 4.5 * deviation
    for edge in (3, 4, 4.5, 5):
        beyond = int((abs(z) > edge).sum())
        assert stats.binomtest(beyond, size, 2 * stats.norm.sf(edge)).pvalue > UNLIKELY
    assert stats.kstest(z[: 2**20], "norm").pvalue > UNLIKELY


def test_siblings_of_a_key_are_independent():
    """Pairs of their bytes fill 2**16 cells evenly."""
    pairs = 2**22
    left, right = (
        bits(dp.fold_in(dp.key(1), "sibling", side), pairs // 8).view(torch.uint8).numpy()
        for side in (0, 1)
    )
    counts = np.bincount(left.astype(np.int64) << 8 | right, minlength=2**16)
    assert UNLIKELY < stats.chisquare(counts).pvalue < 1 - UNLIKELY


def test_flat_orders_by_name():
    assert flat({"b": torch.tensor([2.0]), "a": torch.tensor([1.0])}).tolist() == [1.0, 2.0]
