"""Params in any nesting: the same gradients as flat ones, nested alike."""

from collections import namedtuple

import pytest
import torch

import dpfunc as dp

Layer = namedtuple("Layer", ["weight", "bias"])
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(5, 3, generator=GENERATOR)
W, B, V = (torch.randn(*shape, generator=GENERATOR) for shape in ((4, 3), (4,), (4,)))


def flat_loss(p, x):
    return (torch.tanh(p["w"] @ x + p["b"]) * p["v"]).sum()


NESTINGS = {
    "dicts": ({"a": {"w": W, "b": B}, "v": V}, lambda p: (p["a"]["w"], p["a"]["b"], p["v"])),
    "a list": ([W, B, V], tuple),
    "a tuple of a list": ((W, [B, V]), lambda p: (p[0], p[1][0], p[1][1])),
    "a named tuple": ({"layer": Layer(W, B), 7: V}, lambda p: (*p["layer"], p[7])),
}


def nested_loss(parts):
    return lambda params, x: flat_loss(dict(zip("wbv", parts(params), strict=True)), x)


@pytest.fixture(params=NESTINGS)
def nesting(request):
    return NESTINGS[request.param]


@pytest.mark.parametrize("of_batch", [False, True])
def test_per_sample_gradients(nesting, of_batch):
    params, parts = nesting
    loss = nested_loss(parts)
    if of_batch:
        loss = dp.batched(lambda p, x: torch.stack([nested_loss(parts)(p, row) for row in x]))
    grads, losses = dp.per_sample_grad_and_loss(loss)(params, X)
    expected, flat_losses = dp.per_sample_grad_and_loss(flat_loss)({"w": W, "b": B, "v": V}, X)
    for actual, name in zip(parts(grads), "wbv", strict=True):
        torch.testing.assert_close(actual, expected[name])
    torch.testing.assert_close(losses, flat_losses)
    assert type(dp.per_sample_grad(loss)(params, X)) is type(params)


@pytest.mark.parametrize("microbatch_size", [None, 2, "auto"])
@pytest.mark.parametrize("engine", ["auto", "dense"])
def test_a_private_step(nesting, engine, microbatch_size):
    params, parts = nesting

    def released(loss, of):
        private = dp.PrivateGrad(
            loss,
            clip=dp.Clip(0.5),
            noise=dp.GaussianNoise(0.0, key=dp.key(1)),
            expected_batch_size=5,
            engine=engine,
            microbatch_size=microbatch_size,
        )
        return private.update(of, X, private.init(of))

    grads, state, _ = released(nested_loss(parts), params)
    expected, _, _ = released(flat_loss, {"w": W, "b": B, "v": V})
    for actual, name in zip(parts(grads), "wbv", strict=True):
        torch.testing.assert_close(actual, expected[name])
    assert state["noise"]["step"] == 1


def test_noise_is_drawn_by_the_joined_names():
    private = dp.PrivateGrad(
        lambda p, x: (p["a"][0] * x).sum(),
        clip=dp.Clip(0.5),
        noise=dp.GaussianNoise(1.0, key=dp.key(1)),
        expected_batch_size=5,
    )
    nested = {"a": [torch.ones(3)]}
    grads, _, _ = private.update(nested, X, private.init(nested))
    flat = dp.PrivateGrad(
        lambda p, x: (p["a.0"] * x).sum(),
        clip=private.clip,
        noise=private.noise,
        expected_batch_size=5,
    )
    expected, _, _ = flat.update({"a.0": torch.ones(3)}, X, flat.init({"a.0": torch.ones(3)}))
    assert torch.equal(grads["a"][0], expected["a.0"])


@pytest.mark.parametrize("params", [W, [W, 1.0], {"a": {"b": None, "c": "w"}}, {"a": [1, 2]}])
def test_what_is_no_nesting_of_tensors_is_refused(params):
    with pytest.raises(TypeError, match="per_sample_grad: expected params as tensors by name"):
        dp.per_sample_grad(lambda p, x: x.sum())(params, X)


def test_keys_that_join_to_one_name_are_refused():
    with pytest.raises(ValueError, match=r"keys, joined by dots, are different but got \['a.b'\]"):
        dp.per_sample_grad(lambda p, x: x.sum())({"a": {"b": W}, "a.b": B}, X)
