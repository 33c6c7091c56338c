"""The step as a whole: against a loop, with optimisers, and what it refuses. Laws: tests/laws/."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from dpfunc.step.private_grad import ENGINES
from dpfunc.types import Weights
from tests.laws.exact_release import released

KEY = dp.key(1)


def linear_loss(params, x, y):
    return F.mse_loss(params["w"] @ x + params["b"], y)


PARAMS = {"w": torch.ones(2, 3), "b": torch.zeros(2)}
BATCH = (torch.arange(12.0).reshape(4, 3) / 10, torch.zeros(4, 2))


def private_grad(**changes):
    options = {
        "clip": dp.Clip(0.5),
        "noise": dp.GaussianNoise(0.0, key=KEY),
        "expected_batch_size": 4.0,
    }
    return dp.PrivateGrad(linear_loss, **(options | changes))


DEVIATION = 2.0 * 0.5 / 4.0 * (1 + 2.0**-10)  # of the noise on the sum, which comes out divided
GRID = 2.0**-8  # a power of two up to 2**-6 of it


def noise(name):
    """What step 0 releases of a sum of zeros: items in the order of the names."""
    key, start = dp.fold_in(KEY, "noise", 0), {"b": 0, "w": 2}[name]
    count = PARAMS[name].numel()
    drawn = [released(key, start + i, 0.0, DEVIATION, GRID) for i in range(count)]
    return torch.tensor(drawn).view(PARAMS[name].shape)


def test_a_step_is_the_clipped_mean_plus_noise():
    private = private_grad(noise=dp.GaussianNoise(2.0, key=KEY))
    grads, state, aux = private.update(PARAMS, BATCH, private.init(PARAMS))
    expected = {name: torch.zeros_like(p) for name, p in PARAMS.items()}
    for i, (x, y) in enumerate(zip(*BATCH, strict=True)):
        leaves = {name: p.clone().requires_grad_() for name, p in PARAMS.items()}
        loss = linear_loss(leaves, x, y)
        own = torch.autograd.grad(loss, list(leaves.values()))
        norm = torch.cat([g.flatten() for g in own]).norm()
        assert aux.losses[i].item() == pytest.approx(loss.item())
        assert aux.norms[i].item() == pytest.approx(norm.item())
        for name, grad in zip(PARAMS, own, strict=True):
            expected[name] += grad * min(1, 0.5 / norm)
    for name in PARAMS:
        # Rounded to the grid, and so is the noise that it is compared with.
        torch.testing.assert_close(
            grads[name], expected[name] / 4.0 + noise(name), rtol=1e-6, atol=GRID
        )
    assert state["clip"] == {}
    assert state["noise"]["step"] == 1


@pytest.mark.parametrize("microbatch", [None, 2])
def test_an_empty_batch_releases_noise_alone(microbatch):
    private = private_grad(noise=dp.GaussianNoise(2.0, key=KEY), microbatch_size=microbatch)
    empty = tuple(part[:0] for part in BATCH)
    grads, state, aux = private.update(PARAMS, empty, private.init(PARAMS))
    assert torch.equal(grads["w"], noise("w"))
    assert aux.losses.shape == aux.norms.shape == (0,)
    assert state["noise"]["step"] == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_gradients_have_the_dtype_of_their_parameters(dtype):
    params = {name: p.to(dtype) for name, p in PARAMS.items()}
    batch = tuple(part.to(dtype) for part in BATCH)
    grads, _, aux = private_grad().update(params, batch, private_grad().init(params))
    assert all(grads[name].dtype == dtype for name in params)
    assert aux.norms.dtype == torch.promote_types(dtype, torch.float32)


def test_parameters_that_require_grad_build_no_graph():
    params = {name: p.clone().requires_grad_() for name, p in PARAMS.items()}
    grads, _, aux = private_grad().update(params, BATCH, private_grad().init(params))
    assert not any(t.requires_grad for t in [*grads.values(), *aux])


def test_it_works_under_no_grad():
    with torch.no_grad():
        grads, _, _ = private_grad().update(PARAMS, BATCH, private_grad().init(PARAMS))
    assert grads["w"].any()


def test_dropout_is_asked_for():
    def loss_fn(params, x, y):
        return linear_loss(params, F.dropout(x, 0.5), y)

    options = {
        "clip": dp.Clip(1.0),
        "noise": dp.GaussianNoise(1.0, key=KEY),
        "expected_batch_size": 4,
    }
    private = dp.PrivateGrad(loss_fn, **options)
    with pytest.raises(RuntimeError, match="random"):
        private.update(PARAMS, BATCH, private.init(PARAMS))
    private = dp.PrivateGrad(loss_fn, randomness="different", **options)
    private.update(PARAMS, BATCH, private.init(PARAMS))


OPTIMIZERS = [
    optimizer
    for name, optimizer in vars(torch.optim).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # closure; sparse; 2-D only
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.__name__)
def test_every_torch_optimizer_takes_the_gradients(optimizer):
    model = nn.Linear(3, 2)
    params = dp.named_params(model)
    before = {name: p.clone() for name, p in params.items()}
    private = dp.PrivateGrad(
        lambda params, x, y: F.mse_loss(torch.func.functional_call(model, params, (x,)), y),
        clip=dp.AutoClip(1.0),
        noise=dp.GaussianNoise(1.0, key=KEY),
        expected_batch_size=4,
    )
    state = private.init(params)
    optimiser = optimizer(model.parameters(), lr=0.1)
    for _ in range(2):
        grads, state, _ = private.update(params, BATCH, state)
        dp.set_grads_(model, grads)
        optimiser.step()
    assert all(not torch.equal(params[n], before[n]) for n in params)  # views see the update


def test_a_functional_update_needs_no_module():
    private = private_grad(clip=dp.AutoClip(1.0))
    params, state = dict(PARAMS), private.init(PARAMS)
    losses = []
    for _ in range(30):
        grads, state, aux = private.update(params, BATCH, state)
        params = {name: p - 0.1 * grads[name] for name, p in params.items()}
        losses.append(aux.losses.mean().item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_rule_and_a_mechanism_of_ones_own():
    class Sign:
        """Weight 1 / norm: every gradient becomes a unit vector."""

        query_multiplier = math.inf

        def init(self):
            return {"seen": 0}

        def weights(self, norms, state):
            norm = dp.global_norm(norms)
            weight = torch.where(norm.isfinite() & (norm > 0), 1 / norm, 0.0)
            return Weights(dict.fromkeys(norms, weight), 1.0)

        def update(self, norms, mask, state):
            return {"seen": state["seen"] + int(mask.sum())}

    private = private_grad(clip=Sign(), microbatch_size=3)
    state = private.init(PARAMS)
    for _ in range(2):
        _, state, _ = private.update(PARAMS, BATCH, state)
    assert state["clip"] == {"seen": 8}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"expected_batch_size": 0}, ValueError, "expected a finite expected_batch_size > 0"),
        ({"expected_batch_size": math.inf}, ValueError, "expected a finite expected_batch_size"),
        ({"expected_batch_size": "8"}, ValueError, "expected a finite expected_batch_size"),
        ({"microbatch_size": 0}, ValueError, 'expected microbatch_size >= 1, "auto" or'),
        ({"microbatch_size": 1.5}, ValueError, 'expected microbatch_size >= 1, "auto" or'),
        ({"engine": "ghost"}, ValueError, "expected engine auto or one of"),
        ({"randomness": "same"}, ValueError, "expected randomness"),
        ({"clip": 1.0}, TypeError, "expected a clip stage with the methods init, weights, update"),
        ({"noise": 1.1}, TypeError, "expected a noise stage with the methods init, add, event"),
        ({"clip": dp.GaussianNoise(1.0, key=KEY)}, TypeError, "expected a clip stage"),
    ],
)
def test_errors_at_construction(changes, error, message):
    with pytest.raises(error, match=message):
        private_grad(**changes)


def test_the_loss_must_be_a_function():
    with pytest.raises(TypeError, match=r"expected a loss_fn\(params, \*sample\) -> scalar"):
        dp.PrivateGrad(
            nn.Linear(1, 1).weight,
            clip=dp.Clip(1.0),
            noise=dp.GaussianNoise(1.0, key=KEY),
            expected_batch_size=1,
        )


@pytest.mark.parametrize(
    "mask", [torch.ones(4), torch.ones(3, dtype=torch.bool), [True] * 4, torch.tensor(True)]
)
def test_a_mask_is_a_bool_for_every_sample(mask):
    private = private_grad()
    with pytest.raises(ValueError, match=r"expected a bool mask of shape \(4,\)"):
        private.update(PARAMS, BATCH, private.init(PARAMS), mask)


def test_an_unclipped_sum_gets_no_noise():
    private = private_grad(clip=dp.Clip(math.inf), noise=dp.GaussianNoise(1.0, key=KEY))
    with pytest.raises(ValueError, match="finite L2 bound"):
        private.update(PARAMS, BATCH, private.init(PARAMS))


def test_auto_is_one_of_the_engines():
    for engine in ("auto", *ENGINES):
        grads, _, _ = private_grad(engine=engine).update(PARAMS, BATCH, private_grad().init(PARAMS))
        torch.testing.assert_close(
            grads,
            private_grad(engine="dense").update(PARAMS, BATCH, private_grad().init(PARAMS))[0],
        )


def test_a_noise_stage_that_cannot_resume_is_told_so():
    class Unable:
        def init(self, params):
            return {}

        def add(self, summed, state):
            return summed.values, state

        def event(self, state, *, sample_rate):
            raise NotImplementedError

    private = private_grad(noise=Unable())
    with pytest.raises(TypeError, match="a noise stage with the methods resume"):
        private.resume(private.init(PARAMS), key=KEY)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("microbatch_size", [None, 1])
def test_the_release_takes_no_memory_but_the_sums_own(engine, size, microbatch_size):
    """Where a gradient is the data itself, and where it is a parameter, both stay as they are."""
    params = {"w": torch.ones(5), "v": torch.full((5,), 2.0), "idle": torch.ones(3)}
    private = dp.PrivateGrad(
        lambda p, x: (p["w"] * x).sum() + (p["w"] * p["v"]).sum() + 0 * p["idle"].sum(),
        clip=dp.Clip(1e6),
        noise=dp.GaussianNoise(1.0, key=KEY),
        expected_batch_size=1.0,
        microbatch_size=microbatch_size,
        engine=engine,
    )
    x = torch.arange(5.0 * size).reshape(size, 5)
    kept = {name: value.clone() for name, value in params.items()}, x.clone()
    grads, _, _ = private.update(params, x, private.init(params))
    assert all(torch.equal(params[name], value) for name, value in kept[0].items())
    assert torch.equal(x, kept[1])
    assert grads["idle"].abs().max() > 0
