"""L6: how a step is computed changes nothing but rounding; the divisor is a constant."""

import io
import itertools

import pytest
import torch

import dpfunc as dp
from dpfunc import accounting
from tests.laws.matrix import CLIPS, DEVICES, ENGINE_NAMES, NOISES, Setting, flat, loss_fn, setting


def private_grad(rule, *, engine="auto", microbatch=None, divisor=6.0, sigma=1.0, key=2):
    return dp.PrivateGrad(
        loss_fn,
        clip=CLIPS[rule],
        noise=dp.GaussianNoise(sigma, key=dp.key(key)),
        expected_batch_size=divisor,
        microbatch_size=microbatch,
        engine=engine,
    )


def step(private, at: Setting, mask=None):
    return private.update(at.params, (at.x, at.y), private.init(at.params), mask)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("microbatch", [1, 2, 3, 4, 6, 100])
@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_microbatches_change_rounding_alone(engine, rule, microbatch, device):
    at = setting(torch.float64, device)
    whole, _, aux = step(private_grad(rule, engine=engine), at)
    parts, _, parts_aux = step(private_grad(rule, engine=engine, microbatch=microbatch), at)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(tuple(parts_aux), tuple(aux), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("microbatch", [None, 1, 4])
@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_padding_changes_rounding_alone(engine, rule, microbatch, device):
    at = setting(torch.float64, device)
    padded = Setting(
        at.params, torch.cat([at.x, at.x[:3]]), torch.cat([at.y, torch.full_like(at.y[:3], 1e9)])
    )
    mask = torch.tensor([True] * 6 + [False] * 3, device=device)
    plain, _, _ = step(private_grad(rule, engine=engine), at)
    with_padding, _, _ = step(
        private_grad(rule, engine=engine, microbatch=microbatch), padded, mask
    )
    torch.testing.assert_close(with_padding, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_the_order_of_samples_changes_rounding_alone(engine, rule):
    at = setting(torch.float64, "cpu")
    plain, _, _ = step(private_grad(rule, engine=engine), at)
    turned, _, _ = step(
        private_grad(rule, engine=engine), Setting(at.params, at.x.flip(0), at.y.flip(0))
    )
    torch.testing.assert_close(turned, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", CLIPS)
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_the_divisor_is_a_constant_and_not_the_realised_batch_size(engine, rule):
    at = setting(torch.float64, "cpu")
    private = private_grad(rule, engine=engine, sigma=0.0)
    once, _, _ = step(private, at)
    doubled = Setting(at.params, torch.cat([at.x] * 2), torch.cat([at.y] * 2))
    twice, _, _ = step(private, doubled)
    torch.testing.assert_close(flat(twice), 2 * flat(once), rtol=1e-12, atol=1e-14)
    half, _, _ = step(private_grad(rule, engine=engine, sigma=0.0, divisor=12.0), at)
    torch.testing.assert_close(flat(half), flat(once) / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("rule", CLIPS)
def test_a_run_saved_and_loaded_in_the_middle_releases_the_same(rule, noise):
    at = setting(torch.float32, "cpu")

    def run(private, state, count):
        out = []
        for _ in range(count):
            grads, state, _ = private.update(at.params, (at.x, at.y), state)
            out.append(flat(grads))
        return out, state

    straight, _ = run(private_grad(rule), private_grad(rule).init(at.params), 4)
    first, state = run(private_grad(rule), private_grad(rule).init(at.params), 2)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    second, _ = run(private_grad(rule), torch.load(file, weights_only=True), 2)
    assert all(torch.equal(a, b) for a, b in zip(straight, first + second, strict=True))


def test_a_branch_of_a_run_has_fresh_noise_and_the_run_itself_does_not():
    at = setting(torch.float32, "cpu")
    private = private_grad("Clip")
    _, state, _ = step(private, at)
    other = Setting(at.params, at.x.flip(0), at.y * 2)
    straight, _, _ = private.update(at.params, (at.x, at.y), state)
    resumed, _, _ = private.update(at.params, (at.x, at.y), private.resume(state, key=dp.key(2)))
    assert torch.equal(flat(resumed), flat(straight))
    branches = [private.resume(state, key=dp.key(seed)) for seed in (3, 4)]
    noises = [
        flat(private.update(at.params, (at.x[:0], at.y[:0]), s)[0]) for s in (state, *branches)
    ]
    assert all((a != b).all() for a, b in itertools.combinations(noises, 2))
    moved, branch, _ = private.update(at.params, (other.x, other.y), branches[0])
    assert not torch.equal(flat(moved), flat(straight))
    assert private.event(branch, sample_rate=0.1).times == 2


def test_update_is_pure():
    at = setting(torch.float32, "cpu")
    private = private_grad("Clip")
    state = private.init(at.params)
    before = {name: value.clone() for name, value in at.params.items()}
    first, _, _ = private.update(at.params, (at.x, at.y), state)
    again, _, _ = private.update(at.params, (at.x, at.y), state)
    assert state == private.init(at.params)
    assert torch.equal(flat(first), flat(again))
    assert torch.equal(flat(before), flat(at.params))


def test_the_state_holds_no_key():
    at = setting(torch.float32, "cpu")
    _, state, _ = step(private_grad("Clip", key=77), at)
    secret = dp.key(77).secret_bytes
    assert secret.hex() not in repr(state)
    assert repr(secret) not in repr(state)
    assert state["noise"]["step"] == 1


def test_without_noise_epsilon_is_infinite():
    at = setting(torch.float32, "cpu")
    private = private_grad("Clip", sigma=0.0)
    _, state, _ = step(private, at)
    assert accounting.epsilon(private.event(state, sample_rate=0.1), delta=1e-5) == float("inf")
