"""Helpers of optimisers: right numbers out of public ones, and units that keep the guarantee."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import dpfunc as dp
from dpfunc import optim
from dpfunc.types import Summed

STEPS, ITEMS = 8, 20_000
STRATEGIES = {
    "banded": dp.correlated.banded(steps=STEPS, bands=4),
    "fractional": dp.correlated.fractional(steps=STEPS, bands=3, exponent=0.8),
    "buffered": dp.correlated.Buffered(STEPS, (0.9, 0.4), (0.5, 0.3)),
    "identity": dp.correlated.identity(steps=STEPS),
}


def releases(name):
    """Noise alone, and the state after each step."""
    noise = dp.CorrelatedNoise(1.5, STRATEGIES[name], key=dp.key(6))
    zeros = {"w": torch.zeros(ITEMS)}
    state = noise.init(zeros)
    assert noise.deviation(state) == 0
    for _ in range(STEPS):
        noisy, state = noise.add(Summed(zeros, 0.3), state)
        yield noisy["w"], noise.deviation(state)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_deviation_of_a_step_is_that_of_its_noise(name):
    for step, (noise, deviation) in enumerate(releases(name)):
        assert float(noise.square().mean().sqrt()) == pytest.approx(deviation, rel=0.03)
        if step == 0:
            one = 1.5 * dp.correlated.column_norm(STRATEGIES[name]) * 0.3
            assert one <= deviation <= one * 1.004


def test_the_deviation_of_independent_noise():
    noise = dp.GaussianNoise(1.5, key=dp.key(6))
    zeros = {"w": torch.zeros(ITEMS)}
    noisy, state = noise.add(Summed(zeros, 0.3), noise.init(zeros))
    deviation = noise.deviation(state, bound=0.3)
    assert 0.45 <= deviation <= 0.451
    assert float(noisy["w"].square().mean().sqrt()) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("name", ["banded", "fractional"])
def test_second_moments_are_those_of_the_signal_alone(name):
    """Trap 22: the deviation of the normals instead of that of the step would leave a third."""
    signal, state = 0.5, optim.adam_bc_init({"w": torch.zeros(ITEMS)})
    for noise, deviation in releases(name):
        _, state = optim.adam_bc(
            {"w": signal + noise}, state, lr=0.1, deviation=deviation, betas=(0.9, 0.9)
        )
    left = (state["second"]["w"] - state["noise"]) / (1 - 0.9**STEPS)
    error = 5 * float(left.std()) / math.sqrt(ITEMS)
    assert abs(float(left.mean()) - signal**2) < error < 0.05


def test_the_optimizer_takes_the_noise_off():
    """Steps of about lr in each coordinate; with the noise in the moments, of less than half."""
    weight = nn.Parameter(torch.zeros(2000))
    optimizer = optim.AdamBC([weight], lr=0.1, deviation=5.0, betas=(0.0, 0.999), floor=1.0)
    for step in range(400):
        weight.grad = 5.0 * dp.normal(dp.key(step), (2000,)) + 2.0
        optimizer.step()
    moved = float(weight.detach().mean()) / (0.1 * 400)
    assert -1.6 < moved < -0.6, moved


def gradients(step):
    return {"w": dp.normal(dp.key(step), (3, 4)), "b": dp.normal(dp.key(100 + step), (3,))}


def test_without_noise_it_is_adam():
    params = {name: torch.zeros_like(g, requires_grad=True) for name, g in gradients(0).items()}
    adam = torch.optim.Adam(params.values(), lr=0.1, eps=0.0)
    ours = {name: torch.zeros_like(g) for name, g in gradients(0).items()}
    state = optim.adam_bc_init(ours)
    for step in range(5):
        grads = gradients(step)
        for name, param in params.items():
            param.grad = grads[name]
        adam.step()
        steps, state = optim.adam_bc(grads, state, lr=0.1, deviation=0.0, floor=1e-30)
        ours = {name: value + steps[name] for name, value in ours.items()}
    for name, param in params.items():
        assert torch.allclose(ours[name], param, rtol=1e-5, atol=1e-6)


def test_the_optimizer_is_the_function_also_after_loading():
    plain = {name: torch.zeros_like(g) for name, g in gradients(0).items()}
    weights = [nn.Parameter(value.clone()) for value in plain.values()]
    optimizer = optim.AdamBC(weights, lr=0.1, deviation=0.3)
    state = optim.adam_bc_init(plain)
    for step in range(6):
        grads = gradients(step)
        deviation = 0.3 + 0.1 * step
        steps, state = optim.adam_bc(grads, state, lr=0.1, deviation=deviation)
        plain = {name: value + steps[name] for name, value in plain.items()}
        for weight, grad in zip(weights, grads.values(), strict=True):
            weight.grad = grad
        if step == 3:
            saved = optimizer.state_dict()
            optimizer = optim.AdamBC(weights, lr=0.1, deviation=0.3)
            optimizer.load_state_dict(saved)
        optimizer.param_groups[0]["deviation"] = deviation
        optimizer.step()
    for weight, value in zip(weights, plain.values(), strict=True):
        assert torch.equal(weight.data, value)


def test_averages_begin_short_and_grow_long():
    average, seen = {"w": torch.zeros(1)}, torch.tensor([0.0])
    model = nn.Linear(1, 1, bias=False)
    theirs = AveragedModel(model, avg_fn=optim.warm_average(0.6))
    for step in range(30):
        with torch.no_grad():
            model.weight.fill_(step)
        theirs.update_parameters(model)
        weight = min(0.6, (1 + step) / (10 + step))
        seen = weight * seen + (1 - weight) * step
        average = optim.averaged(average, {"w": torch.tensor([float(step)])}, step=step, decay=0.6)
        assert torch.allclose(average["w"], seen)
    # torch's own begins with the first parameters as they are, which are 0 here.
    assert float(theirs.module.weight.detach()) == pytest.approx(float(seen), rel=1e-5)


def loss_fn(params, x, y):
    return (torch.tanh(params["w"] @ x) @ params["v"] - y).square()


PARAMS = {"w": dp.normal(dp.key(1), (4, 3)), "v": dp.normal(dp.key(2), (4,))}
BATCH = dp.normal(dp.key(3), (6, 3)), dp.normal(dp.key(4), (6,))
SCALES = {"w": torch.rand(4, 3) + 0.2, "v": torch.tensor([3.0, 0.1, 1.0, 2.0])}


def private(engine="auto", noise=0.0):
    return dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(0.4),
        noise=dp.GaussianNoise(noise, key=dp.key(5)),
        expected_batch_size=6,
        engine=engine,
    )


@pytest.mark.parametrize("engine", ["dense", "factored"])
def test_scaled_gradients_are_clipped_in_their_own_units(engine):
    step = private(engine)
    grads, _, aux = optim.scaled_update(step, PARAMS, BATCH, step.init(PARAMS), SCALES)
    own = dp.per_sample_grad(loss_fn)(PARAMS, *BATCH)
    scaled = {name: own[name] * SCALES[name] for name in own}
    norms = sum(value.flatten(1).square().sum(1) for value in scaled.values()).sqrt()
    assert torch.allclose(aux.norms, norms, rtol=1e-4)
    assert bool((norms > 0.4).any())
    for name, value in scaled.items():
        weight = (0.4 / norms).clamp(max=1).view(-1, *[1] * (value.dim() - 1))
        expected = (weight * value).sum(0) / 6 / SCALES[name]
        assert torch.allclose(grads[name], expected, rtol=1e-4, atol=1e-6)


def test_a_loss_of_the_whole_batch_stays_one():
    def losses(params, x, y):
        return (torch.tanh(x @ params["w"].T) @ params["v"] - y).square()

    step = private()
    whole = replace(step, loss_fn=dp.batched(losses))
    expected, _, _ = optim.scaled_update(step, PARAMS, BATCH, step.init(PARAMS), SCALES)
    grads, _, _ = optim.scaled_update(whole, PARAMS, BATCH, step.init(PARAMS), SCALES)
    for name, grad in grads.items():
        assert torch.allclose(grad, expected[name], rtol=1e-4, atol=1e-6)
    mixing = replace(
        step, loss_fn=dp.batched(lambda params, x, y: losses(params, x - x.mean(0), y))
    )
    with pytest.raises(RuntimeError, match="samples are mixed"):
        optim.scaled_update(mixing, PARAMS, BATCH, step.init(PARAMS), SCALES)


def test_the_noise_of_a_coordinate_is_divided_by_its_scale():
    """And one record moves what is released by no more than the bound, in scaled units."""
    step = private(noise=2.0)
    size = {"w": torch.zeros(100, 100), "v": torch.zeros(100)}
    scales = {"w": torch.full((100, 100), 4.0), "v": torch.ones(100)}
    quiet = torch.zeros(6, 100), torch.zeros(6)
    grads, _, _ = optim.scaled_update(step, size, quiet, step.init(size), scales)
    unit = 2.0 * 0.4 / 6
    assert float(grads["w"].std()) == pytest.approx(unit / 4, rel=0.05)
    assert float(grads["v"].std()) == pytest.approx(unit, rel=0.5)


def test_each_parameter_has_a_norm_and_noise_of_its_own():
    size = {"w": torch.zeros(60, 60), "v": torch.zeros(60)}
    norms, budgets = {"w": 0.4, "v": 0.1}, {"w": 1.0, "v": 0.5}
    clip, scales = optim.with_budgets(size, norms, budgets)
    step = replace(private(noise=2.0), clip=clip)
    quiet = torch.zeros(6, 60), torch.zeros(6)
    grads, _, _ = optim.scaled_update(step, size, quiet, step.init(size), scales)
    unit = 2.0 * math.hypot(0.4 / 1.0, 0.1 / 0.5) / 6
    assert float(grads["w"].std()) == pytest.approx(unit * 1.0, rel=0.05)
    assert float(grads["v"].std()) == pytest.approx(unit * 0.5, rel=0.3)
    clip, scales = optim.with_budgets(PARAMS, norms, budgets)
    step = replace(private(), clip=clip)
    own = dp.per_sample_grad(loss_fn)(PARAMS, *BATCH)
    for sample in range(6):
        one = tuple(part[sample : sample + 1] for part in BATCH)
        grads, _, _ = optim.scaled_update(step, PARAMS, one, step.init(PARAMS), scales)
        for name, norm in norms.items():
            expected = min(norm, float(own[name][sample].norm()))
            assert float(grads[name].norm()) * 6 == pytest.approx(expected, rel=1e-4)


def test_scales_of_rows_and_columns():
    rows, columns = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, 0.25])
    squares = {"w": rows[:, None] * columns, "b": torch.tensor([2.0, 2.0])}
    scales = optim.row_column_scales(squares, floor=1e-12)
    ratio = scales["w"] * squares["w"].sqrt()  # a product is matched exactly
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)
    assert torch.allclose(scales["b"] * math.sqrt(2), ratio[0, 0].expand(2), rtol=1e-4)
    both = torch.cat([scale.flatten() for scale in scales.values()])
    assert float(both.square().mean()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: optim.AdamBC([nn.Parameter(torch.zeros(1))], lr=0.1, deviation=-1.0), "deviation"),
        (lambda: optim.AdamBC([nn.Parameter(torch.zeros(1))], lr=math.nan, deviation=1.0), "lr"),
        (
            lambda: optim.adam_bc({}, optim.adam_bc_init({}), lr=0.1, deviation=1.0, floor=0.0),
            "floor",
        ),
        (
            lambda: optim.AdamBC(
                [nn.Parameter(torch.zeros(1))], lr=0.1, deviation=1.0, betas=(0.9, 1.0)
            ),
            "betas",
        ),
        (lambda: optim.warm_average(1.0), "decay"),
        (lambda: optim.averaged({}, {}, step=-1), "step"),
        (lambda: optim.row_column_scales({"w": torch.ones(2)}, floor=0.0), "floor"),
        (
            lambda: optim.scaled_update(private(), PARAMS, BATCH, {}, {"w": SCALES["w"]}),
            "positive scales",
        ),
        (
            lambda: optim.scaled_update(
                private(), PARAMS, BATCH, {}, {**SCALES, "v": torch.zeros(4)}
            ),
            "positive scales",
        ),
        (lambda: optim.with_budgets(PARAMS, {"w": 1.0}, {"w": 1.0, "v": 1.0}), "max_norms above 0"),
        (
            lambda: optim.with_budgets(PARAMS, {"w": 1.0, "v": 1.0}, {"w": 1.0, "v": 0.0}),
            "budgets above 0",
        ),
        (lambda: dp.correlated.noise_norm(STRATEGIES["banded"], STEPS), "a step below"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_norm_of_a_dense_strategy_is_that_of_its_inverse():
    dense = dp.correlated.dense(steps=6)
    rows = torch.tensor([[*row, *[0.0] * (6 - len(row))] for row in dense.rows]).double()
    inverse = torch.linalg.inv(rows)
    for step in range(6):
        expected = float(inverse[step].norm())
        assert dp.correlated.noise_norm(dense, step) == pytest.approx(expected, rel=1e-6)
