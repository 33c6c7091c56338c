"""`dp.compile`: the same step from one graph. What a graph may bake in, it must not."""

import math
import warnings
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import dpfunc as dp
from dpfunc.types import Weights
from tests.laws.matrix import Recorder, flat, loss_fn, setting

KEY = dp.key(3)


class CountingBackend:
    """Runs graphs as they are, and counts what it was asked to compile."""

    def __init__(self):
        self.compiled = 0

    def __call__(self, graph, inputs):
        self.compiled += 1
        return graph.forward


def private_grad(loss=loss_fn, **changes):
    options = {
        "clip": dp.Clip(0.5),
        "noise": dp.GaussianNoise(1.0, key=KEY),
        "expected_batch_size": 4.0,
    }
    return dp.PrivateGrad(loss, **(options | changes))


def compiled(loss=loss_fn, backend=None, **changes):
    return dp.compile(private_grad(loss, **changes), backend=backend or CountingBackend())


def assert_same_step(private, fast, params, batch, mask=None, *, state=None, tolerance=1e-12):
    state = private.init(params) if state is None else state
    expected, expected_state, expected_aux = private.update(params, batch, state, mask)
    grads, new_state, aux = fast.update(params, batch, state, mask)
    close = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
    torch.testing.assert_close(grads, expected, **close)
    torch.testing.assert_close(tuple(aux), tuple(expected_aux), **close)
    assert new_state.keys() == expected_state.keys()
    assert new_state["noise"] == expected_state["noise"]
    return new_state


def test_one_graph_serves_a_run_of_padded_poisson_batches():
    data = dp.normal(dp.key(5), (200, 7), dtype=torch.float64)
    at = setting(torch.float64, "cpu")
    params = {name: value.clone() for name, value in at.params.items()}
    private, fast = private_grad(), compiled()
    state, sizes = private.init(params), set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(6):
            indices, mask = dp.sampling.poisson(dp.key(6), step, size=200, rate=0.05, pad_to=32)
            batch = (data[indices, :4], data[indices, 4:])
            state = assert_same_step(private, fast, params, batch, mask, state=state)
            sizes.add(int(mask.sum()))
            for name in params:  # an optimiser writes in place, and may replace what it is given
                params[name].mul_(0.9)
            params["b"] = params["b"] + 0.1
    assert len(sizes) > 3
    assert fast.graph_count == fast.backend.compiled == 1


def test_another_shape_compiles_anew_and_many_shapes_warn(monkeypatch):
    monkeypatch.setattr("dpfunc.step.compiled._MANY_GRAPHS", 3)
    at = setting(torch.float64, "cpu")
    private, fast = private_grad(), compiled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size in range(1, 5):
            x, y = at.x[:1].repeat(size, 1), at.y[:1].repeat(size, 1)
            assert_same_step(private, fast, at.params, (x, y))
            assert_same_step(private, fast, at.params, (x, y))
            assert fast.graph_count == fast.backend.compiled == size
    assert ["pad batches" in str(warning.message) for warning in caught] == [True]


def test_another_layout_or_dtype_compiles_anew():
    at = setting(torch.float64, "cpu")
    private, fast = private_grad(), compiled()
    assert_same_step(private, fast, at.params, (at.x, at.y))
    assert_same_step(private, fast, at.params, (at.x.mT.contiguous().mT, at.y))
    low = setting(torch.float32, "cpu")
    assert_same_step(private, fast, low.params, (low.x, low.y), tolerance=1e-6)
    assert fast.graph_count == 3


def test_tensors_that_the_loss_closes_over_are_read_at_every_step():
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def scaled(params, x, y):
        return loss_fn(params, x, y) * scale.sum()

    at = setting(torch.float64, "cpu")
    private, fast = private_grad(scaled), compiled(scaled)
    for _ in range(3):
        assert_same_step(private, fast, at.params, (at.x, at.y))
        scale.mul_(1.5)
    assert fast.graph_count == 1


@dataclass(frozen=True)
class Growing:
    """A clip rule whose threshold moves: a float, a count and a tensor make up its state."""

    query_multiplier = math.inf

    def init(self):
        return {"max_norm": 0.1, "steps": 1, "more": (torch.tensor(0.01), True)}

    def weights(self, norms, state):
        max_norm = state["max_norm"] * state["steps"] + state["more"][0]
        norm = dp.global_norm(norms)
        weight = torch.where(norm.isfinite(), (max_norm / norm).clamp(max=1.0), 0.0)
        return Weights(dict.fromkeys(norms, weight), max_norm)

    def update(self, norms, mask, state):
        more, flag = state["more"]
        return {
            "max_norm": state["max_norm"] * 1.1,
            "steps": state["steps"] + 1,
            "more": (more * 2, flag),
        }


def test_the_state_of_a_clip_rule_is_an_input_and_so_is_its_bound():
    at = setting(torch.float64, "cpu")
    recorder, expected = Recorder(), Recorder()
    fast = compiled(clip=Growing(), noise=recorder)
    private = private_grad(clip=Growing(), noise=expected)
    state = private.init(at.params)
    for _ in range(4):
        before = state
        _, state, _ = private.update(at.params, (at.x, at.y), before)
        fast.update(at.params, (at.x, at.y), before)
    assert fast.backend.compiled == 1
    bounds = [float(summed.bound) for summed in recorder.seen]
    assert bounds == [float(summed.bound) for summed in expected.seen]
    assert len(set(bounds)) == 4
    for actual, right in zip(recorder.seen, expected.seen, strict=True):
        torch.testing.assert_close(actual.values, right.values, rtol=1e-6, atol=1e-9)


def test_an_empty_batch_runs_uncompiled():
    at = setting(torch.float64, "cpu")
    private, fast = private_grad(), compiled()
    assert_same_step(private, fast, at.params, (at.x[:0], at.y[:0]))
    assert fast.graph_count == 0


def test_autocast_holds_in_the_model_and_not_in_norms_and_sums():
    def two_layers(params, x, y):
        return F.mse_loss(F.linear(F.linear(x, params["w"]).relu(), params["v"]), y)

    at = setting(torch.float32, "cpu")
    params = {"w": at.params["w"], "v": at.params["w"][:, :3].contiguous()}
    private, fast = private_grad(two_layers), compiled(two_layers, backend="aot_eager")
    batch = (at.x.repeat(300, 1), at.y.repeat(300, 1))
    assert_same_step(private, fast, params, batch, tolerance=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = assert_same_step(private, fast, params, batch, tolerance=1e-6)
        low, _, _ = fast.update(params, batch, state)
        assert torch.is_autocast_enabled("cpu")
    assert fast.graph_count == 2
    high, _, _ = fast.update(params, batch, state)
    apart = (flat(low) - flat(high)).norm() / flat(high).norm()
    assert 1e-4 < apart < 0.02  # bfloat16 in the model


def test_a_loss_of_the_whole_batch_is_verified_and_then_compiled():
    def losses(params, x, y):
        return (F.linear(x, params["w"], params["b"]) * params["s"] - y).square().sum(1)

    at = setting(torch.float64, "cpu")
    private, fast = private_grad(dp.batched(losses)), compiled(dp.batched(losses))
    for scale in (1.0, 2.0):
        assert_same_step(private, fast, at.params, (scale * at.x, at.y))
    assert fast.backend.compiled == 1
    mixing = compiled(dp.batched(lambda params, x, y: losses(params, x - x.mean(0), y)))
    with pytest.raises(RuntimeError, match="samples are mixed"):
        mixing.update(at.params, (at.x, at.y), mixing.init(at.params))


def test_python_that_depends_on_data_is_refused():
    at = setting(torch.float64, "cpu")

    def branches(params, x, y):
        losses = (F.linear(x, params["w"], params["b"]) * params["s"] - y).square().sum(1)
        return losses * (2.0 if x[0, 0] > 1e6 else 1.0)

    fast = compiled(dp.batched(branches))
    with pytest.raises(RuntimeError, match="whatever the data"):
        fast.update(at.params, (at.x, at.y), fast.init(at.params))
    assert fast.graph_count == 0


def test_a_failed_step_changes_nothing():
    at = setting(torch.float64, "cpu")
    fast = compiled()
    with pytest.raises(ValueError, match="a bool mask of shape"):
        fast.update(at.params, (at.x, at.y), fast.init(at.params), torch.ones(3, dtype=torch.bool))
    assert fast.graph_count == 0


def test_the_ledger_is_that_of_the_step():
    at = setting(torch.float64, "cpu")
    private, fast = private_grad(), compiled()
    assert fast.init(at.params) == private.init(at.params)
    _, state, _ = fast.update(at.params, (at.x, at.y), fast.init(at.params))
    assert fast.event(state, sample_rate=0.1) == private.event(state, sample_rate=0.1)


def test_what_it_refuses():
    with pytest.raises(TypeError, match="expected a PrivateGrad but got 'function'"):
        dp.compile(loss_fn)
    with pytest.raises(TypeError, match="a PrivateGrad but got 'CompiledGrad'"):
        dp.compile(compiled())
    with pytest.raises(ValueError, match='randomness="error"'):
        compiled(randomness="different")
    with pytest.raises(ValueError, match="one of \\['aot_eager"):
        compiled(backend="triton")
