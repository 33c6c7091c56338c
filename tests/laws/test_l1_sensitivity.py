"""L1: adding any sample at all moves the clipped sum by its clipped gradient, at most bound."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dpfunc as dp
from dpfunc.types import Summed
from tests.laws.matrix import (
    CLIPS,
    DEVICES,
    DTYPES,
    ENGINE_NAMES,
    MICROBATCHES,
    Recorder,
    Setting,
    clipped,
    flat,
    loss_fn,
    setting,
)

SAMPLES = {
    "ordinary": (1.0, 1.0),
    "huge": (1e8, 1.0),
    "overflowing norm": (1e15, 1.0),
    "half overflow": (3e4, 1.0),
    "tiny": (1e-20, 0.0),
    "zero": (0.0, 0.0),
    "NaN": (math.nan, 1.0),
    "infinite": (math.inf, 1.0),
    "NaN label": (1.0, math.nan),
}


def clipped_sum(
    at: Setting, rule: str, engine: str, microbatch: int | None, mask: Tensor | None = None
) -> Summed:
    recorder = Recorder()
    private = dp.PrivateGrad(
        loss_fn,
        clip=CLIPS[rule],
        noise=recorder,
        expected_batch_size=1,  # the mechanism gets the sum itself
        microbatch_size=microbatch,
        engine=engine,
    )
    private.update(at.params, (at.x, at.y), private.init(at.params), mask)
    (summed,) = recorder.seen
    return summed


def with_sample(at: Setting, x: Tensor, y: Tensor) -> Setting:
    return Setting(at.params, torch.cat([at.x, x[None]]), torch.cat([at.y, y[None]]))


def gradient(at: Setting, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    params = {name: value.clone().requires_grad_() for name, value in at.params.items()}
    grads = torch.autograd.grad(loss_fn(params, x, y), list(params.values()))
    return dict(zip(params, grads, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("microbatch", MICROBATCHES)
@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_adding_a_sample_adds_its_clipped_gradient(kind, engine, rule, microbatch, dtype, device):
    at = setting(dtype, device)
    scale_x, scale_y = SAMPLES[kind]
    x, y = at.x[0].flip(0) * scale_x, at.y[0].flip(0) * scale_y
    before = clipped_sum(at, rule, engine, microbatch)
    after = clipped_sum(with_sample(at, x, y), rule, engine, microbatch)
    assert after.bound == before.bound
    moved = flat(after.values) - flat(before.values)
    rounding = 1e-6 if dtype != torch.float64 else 1e-12
    assert moved.norm() <= before.bound * (1 + 1e-6) + rounding * flat(before.values).norm()

    if kind == "overflowing norm" and dtype != torch.float64:
        expected = torch.zeros_like(moved)  # the norm is infinite in float32: the sample is dropped
    else:
        expected = flat(clipped(rule, gradient(at, x, y)))
    # vmap and a plain backward round half-precision products differently.
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}.get(dtype, 0.05)
    torch.testing.assert_close(moved, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("microbatch", MICROBATCHES)
@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_a_masked_sample_adds_exactly_nothing(kind, engine, rule, microbatch, device):
    at = setting(torch.float32, device)
    scale_x, scale_y = SAMPLES[kind]
    more = with_sample(at, at.x[0] * scale_x, at.y[0] * scale_y)
    mask = torch.tensor([True] * 6 + [False], device=device)
    torch.testing.assert_close(
        clipped_sum(more, rule, engine, microbatch, mask).values,
        clipped_sum(at, rule, engine, microbatch).values,
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_duplicate_counts_twice(engine, rule):
    at = setting(torch.float64, "cpu")
    once = flat(clipped_sum(at, rule, engine, None).values)
    twice = flat(clipped_sum(with_sample(at, at.x[2], at.y[2]), rule, engine, None).values)
    expected = flat(clipped(rule, gradient(at, at.x[2], at.y[2])))
    torch.testing.assert_close(twice - once, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_empty_batch_and_an_all_masked_one_sum_to_zero(engine, rule):
    at = setting(torch.float32, "cpu")
    empty = clipped_sum(Setting(at.params, at.x[:0], at.y[:0]), rule, engine, None)
    nobody = clipped_sum(at, rule, engine, None, torch.zeros(6, dtype=torch.bool))
    assert flat(empty.values).abs().max() == 0 == flat(nobody.values).abs().max()
    assert empty.bound == nobody.bound == clipped_sum(at, rule, engine, None).bound


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_bad_sample_changes_no_exception_shape_or_dtype(engine, rule):
    at = setting(torch.float32, "cpu")
    for scale_x, scale_y in SAMPLES.values():
        summed = clipped_sum(with_sample(at, at.x[0] * scale_x, at.y[0] * scale_y), rule, engine, 2)
        assert {n: (v.shape, v.dtype) for n, v in summed.values.items()} == {
            n: (p.shape, torch.float64)  # microbatches are joined in it
            for n, p in at.params.items()
        }
        assert flat(summed.values).isfinite().all()


@pytest.mark.parametrize("value", [0.1, 0.3])
@pytest.mark.parametrize("size", [10**6, 2 * 10**7])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_the_norm_of_a_large_parameter_is_not_too_small(size, value, layout):
    """Adding the squares one after the other in float32 loses percents of the norm."""
    shape = (size // 1000, 1000)
    grad = torch.full((1, *shape), value)
    grads = {"w": grad if layout == "rows" else grad.mT.contiguous().mT}
    for rule in ("Clip", "AutoClip", "ClipPerLayer"):
        summed = dp.weighted_sum(grads, CLIPS[rule].weights(dp.leaf_norms(grads), {}))
        assert summed.values["w"].double().norm() <= summed.bound * (1 + 1e-6)


CORRELATED = 4097


def correlated_sums(engine, dtype):
    """The clipped sums of many samples alike, without the last one and with it."""
    params = {"w": torch.zeros(32, 8, dtype=dtype), "b": torch.zeros(32, dtype=dtype)}
    inputs = torch.full((CORRELATED, 8), 0.7, dtype=dtype)

    def linear_loss(params, x):
        return torch.nn.functional.linear(x, params["w"], params["b"]).sum()

    recorder = Recorder()
    private = dp.PrivateGrad(
        linear_loss, clip=dp.Clip(1.0), noise=recorder, expected_batch_size=1, engine=engine
    )
    for part in (inputs[:-1], inputs):
        private.update(params, part, private.init(params))
    return recorder.seen


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("precision", ["plain", "autocast", "medium", "bf16 parameters"])
def test_sums_are_in_full_precision_whatever_the_settings(engine, precision):
    """In bfloat16, one record would move a sum of thousands by several times the bound."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "medium" else before)
    try:
        dtype = torch.bfloat16 if precision == "bf16 parameters" else torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            without, with_one = correlated_sums(engine, dtype)
        assert (torch.get_float32_matmul_precision() == "medium") == (precision == "medium")
    finally:
        torch.set_float32_matmul_precision(before)
    moved = (flat(with_one.values) - flat(without.values)).norm()
    # What is left is the rounding of a float32 sum, about 1e-6 of the sum of 4096.
    assert moved == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_one_record_at_a_time_the_sum_is_as_good_as_its_terms(engine):
    """Then a record moves the computed sum by what it adds alone: nothing is left to rounding."""
    at = setting(torch.float32, "cpu")
    many = Setting(at.params, at.x.repeat(80, 1), at.y.repeat(80, 1))
    alone = [
        flat(clipped_sum(Setting(at.params, x[None], y[None]), "Clip", engine, 1).values)
        for x, y in zip(at.x, at.y, strict=True)
    ]
    computed = flat(clipped_sum(many, "Clip", engine, 1).values)
    torch.testing.assert_close(computed, 80 * torch.stack(alone).sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "embedding", "tied", "conv", "conv in slices"])
@pytest.mark.parametrize("common", [1e2, 1e5, 1e8])
def test_a_record_whose_gradient_is_what_cancellation_left_is_clipped(kind, common):
    """Large terms that cancel, in the gradient or in its norm alone: an attack on float norms."""
    positions, width = 16, 64
    part = dp.normal(dp.key(1), (1, positions, width)) + common
    cotangent = dp.normal(dp.key(2), (1, positions, width))
    cotangent = cotangent - cotangent.mean(1, keepdim=True)  # it cancels what is common
    x, g = part.double().float(), cotangent
    index = torch.zeros(1, positions, dtype=torch.int64)
    image = x.mT.reshape(1, width, 4, 4)
    image_g = g.mT.reshape(1, width, 4, 4)
    losses = {
        "linear": lambda p, x, g: (F.linear(x, p["w"]) * g).sum(),
        "embedding": lambda p, x, g: (F.embedding(index[0], p["w"]) * g * common).sum(),
        "tied": lambda p, x, g: (
            (F.linear(x, p["w"]) * g).sum() + (F.embedding(index[0], p["w"]) * g).sum()
        ),
        "conv": lambda p, x, g: (F.conv2d(x[None], p["c"], padding=1) * g).sum(),
        "conv in slices": lambda p, x, g: (F.conv2d(x[None], p["d"]) * g).sum(),
    }
    params = {
        "linear": {"w": torch.zeros(width, width)},
        "embedding": {"w": torch.zeros(width, width)},
        "tied": {"w": torch.zeros(width, width)},
        "conv": {"c": torch.zeros(width, width, 3, 3)},
        "conv in slices": {"d": torch.zeros(width, width, 1, 1)},
    }[kind]
    batch = (image, image_g) if "conv" in kind else (x, g)
    private = dp.PrivateGrad(
        losses[kind],
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(0.0, key=dp.key()),
        expected_batch_size=1,
    )
    grads, _, _ = private.update(params, batch, private.init(params))
    assert flat(grads).norm() <= 1.0 + 2.0**-7
