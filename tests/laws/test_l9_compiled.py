"""L9: a compiled step is the step: the same sums, within the same bound, and no other memory."""

import math

import pytest
import torch

import dpfunc as dp
from tests.laws.matrix import (
    CLIPS,
    ENGINE_NAMES,
    MAX_NORM,
    Recorder,
    clipped,
    flat,
    loss_fn,
    setting,
)
from tests.laws.test_l1_sensitivity import SAMPLES, gradient
from tests.laws.uses import USES

# Importing torch's own compiler warns of its use of TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BY_LENGTHS = "a packed sequence"
MASK = torch.tensor([True, True, False, True, True, True])


def steps(backend, loss=loss_fn, **changes):
    """A step and its compiled twin."""
    options = {
        "clip": dp.Clip(MAX_NORM),
        "noise": dp.GaussianNoise(1.0, key=dp.key(2)),
        "expected_batch_size": 1.0,
    }
    private = dp.PrivateGrad(loss, **(options | changes))
    return private, dp.compile(private, backend=backend)


EXACT = pytest.mark.parametrize("backend", ["inductor", "replay"])
UNCOMPILED = pytest.mark.parametrize("backend", ["eager", "replay"])


@UNCOMPILED
@pytest.mark.parametrize(
    ("engine", "rule", "microbatch"),
    [
        *(("factored", rule, None) for rule in CLIPS),
        ("factored", "AutoClip", 4),
        ("dense", "Clip", None),
    ],
)
def test_a_compiled_step_is_the_step(engine, rule, microbatch, backend):
    at = setting(torch.float64, "cpu")
    private, fast = steps(backend, engine=engine, clip=CLIPS[rule], microbatch_size=microbatch)
    state = private.init(at.params)
    for x, mask in ((at.x, MASK), (at.y @ torch.ones(3, 4).double(), None)):
        expected, _, expected_aux = private.update(at.params, (x, at.y), state, mask)
        actual, state, aux = fast.update(at.params, (x, at.y), state, mask)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tuple(aux), tuple(expected_aux), rtol=1e-12, atol=1e-12)
    assert fast.graph_count == (1 if microbatch is None else 2)


@EXACT
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_adding_a_sample_adds_its_clipped_gradient(dtype, backend):
    """L1 on the kernels that torch.compile makes; one graph, so the sample is masked before."""
    at, recorder = setting(dtype, "cpu"), Recorder()
    _, fast = steps(backend, noise=recorder)
    but_one = torch.arange(6) < 5
    for scale_x, scale_y in SAMPLES.values():
        x, y = at.x.clone(), at.y.clone()
        x[5], y[5] = x[5] * scale_x, y[5] * scale_y
        for mask in (but_one, None):
            fast.update(at.params, (x, y), fast.init(at.params), mask)
        before, after = recorder.seen[-2:]
        moved = flat(after.values) - flat(before.values)
        rounding = 1e-6 * flat(before.values).norm()
        assert moved.norm() <= before.bound * (1 + 1e-6) + rounding
        norm = dp.global_norm(dp.leaf_norms(dp.per_sample_grad(loss_fn)(at.params, x, y)))[5]
        expected = flat(clipped("Clip", gradient(at, x[5], y[5])))
        expected = expected if norm.isfinite() else torch.zeros_like(expected)
        tolerance = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(moved, expected, rtol=tolerance, atol=tolerance)
        if not norm.isfinite():
            assert torch.equal(moved, torch.zeros_like(moved))
    assert fast.graph_count == 1


def moved_by_one_sample(params, x, backend):
    """How far ``x`` moves the sum for ``loss = sum(w * x**2)``, as a part of the bound."""
    recorder = Recorder()
    _, fast = steps(backend, lambda params, x: (params["w"] * (x * x)).sum(), noise=recorder)
    fast.update(params, x[None], fast.init(params))
    (summed,) = recorder.seen
    return float(flat(summed.values).norm() / summed.bound)


@EXACT
def test_the_norm_of_a_large_parameter_is_not_too_small(backend):
    """Adding a million squares in a row in float32 makes the norm 7e-6 too small."""
    params = {"w": torch.zeros(1000, 1000)}
    x = torch.full((1000, 1000), 0.1**0.5)
    assert moved_by_one_sample(params, x, backend) <= 1 + 1e-6


@EXACT
def test_the_sum_over_a_large_batch_is_not_off(backend):
    """Adding a million equal numbers in a row in float32 is off by more than 1e-6."""
    x = torch.full((10**6,), 0.1)
    recorder = Recorder()
    slow, fast = steps(backend, lambda params, x: params["w"] * x, noise=recorder)
    for step in (slow, fast):
        step.update({"w": torch.zeros(())}, x, step.init({}))
    eager, compiled = (float(flat(summed.values)) for summed in recorder.seen)
    assert compiled == pytest.approx(eager, rel=1e-6)


@EXACT
def test_a_norm_is_taken_of_the_numbers_that_are_summed(backend):
    """A fused kernel that keeps bfloat16 products unrounded for the norm sums others than those."""
    values = torch.arange(1, 2, 2**-7).bfloat16()
    rounded_up = (values * values).double() / values.double().square()
    worst = values[rounded_up.argmax()]
    assert rounded_up.max() > 1.002
    params = {"w": torch.zeros(300, dtype=torch.bfloat16)}
    assert moved_by_one_sample(params, worst.expand(300), backend) <= 1 + 1e-6


@UNCOMPILED
@pytest.mark.parametrize("precision", ["plain", "autocast", "medium"])
def test_sums_are_in_full_precision_whatever_the_settings(precision, backend):
    """Captured and first run with the setting off, then with it on, and the other way round."""
    count = 4097
    params = {"w": torch.zeros(32, 8), "b": torch.zeros(32)}
    inputs = torch.full((count, 8), 0.7)
    recorder = Recorder()

    def linear_loss(params, x):
        return torch.nn.functional.linear(x, params["w"], params["b"]).sum()

    _, fast = steps(backend, linear_loss, noise=recorder)
    before = torch.get_float32_matmul_precision()
    for changed in (False, True, False):
        torch.set_float32_matmul_precision(
            "medium" if changed and precision == "medium" else before
        )
        on = changed and precision == "autocast"
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
                for mask in (torch.arange(count) > 0, None):
                    fast.update(params, inputs, fast.init(params), mask)
        finally:
            torch.set_float32_matmul_precision(before)
        without, with_one = recorder.seen[-2:]
        moved = (flat(with_one.values) - flat(without.values)).norm()
        assert moved == pytest.approx(MAX_NORM, abs=0.005)


@UNCOMPILED
@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_dropped_and_masked_samples_add_exactly_nothing(engine, bad, backend):
    at = setting(torch.float32, "cpu")
    _, fast = steps(backend, engine=engine, noise=dp.GaussianNoise(0.0, key=dp.key(2)))
    rows = [1, 4]
    x, y = at.x.clone(), at.y.clone()
    x[rows] = 0.0
    mask = torch.tensor([True, False, True, True, False, True])
    without, _, _ = fast.update(at.params, (x, y), fast.init(at.params), mask)
    x[rows] = bad
    dropped, _, aux = fast.update(at.params, (x, y), fast.init(at.params))
    hidden, _, _ = fast.update(at.params, (x, y), fast.init(at.params), mask)
    nobody, _, _ = fast.update(
        at.params, (x, y), fast.init(at.params), torch.zeros(6, dtype=torch.bool)
    )
    assert not aux.norms[rows].isfinite().any()
    assert torch.equal(flat(dropped), flat(without))
    assert torch.equal(flat(hidden), flat(without))
    assert flat(nobody).abs().max() == 0
    assert fast.graph_count == 1


# vmap has no rule for F.bilinear and F.embedding_bag, and says that it runs them in a loop;
# PyTorch, that projections take another implementation.
@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("backend", "name"),
    [
        pytest.param(backend, name, marks=[pytest.mark.nightly] if backend == "aot_eager" else [])
        for backend in ("aot_eager", "replay")
        for name in USES
        if name != BY_LENGTHS
    ],
)
def test_a_use_of_a_parameter_compiles_to_the_same_step(backend, name):
    use = USES[name]
    private, fast = steps(backend, use.loss, noise=dp.GaussianNoise(0.0, key=dp.key(2)))
    expected = private.update(use.params, use.batch, private.init(use.params))
    actual = fast.update(use.params, use.batch, fast.init(use.params))
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(tuple(actual[2]), tuple(expected[2]), rtol=1e-9, atol=1e-12)


def test_a_sequence_packed_by_its_lengths_is_refused():
    """They are data, and which operations run depends on them."""
    use = USES[BY_LENGTHS]
    _, fast = steps("aot_eager", use.loss)
    with pytest.raises(RuntimeError, match="whatever the data"):
        fast.update(use.params, use.batch, fast.init(use.params))
