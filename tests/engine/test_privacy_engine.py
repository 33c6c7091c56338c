"""The two-line engine: equal to `PrivateGrad`, in the loops that people have."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import dpfunc as dp
from dpfunc import accounting

KEY = dp.key(7)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def images(size=60):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 1, 9, 9, generator=generator)
    return TensorDataset(x, torch.randint(0, 5, (size,), generator=generator))


def engine_for(model, size=60, batch_size=8, noise=0.0, **options):
    options = {"max_grad_norm": 0.5, "delta": 1e-5, "key": KEY} | options
    if "target_epsilon" not in options:
        options["noise_multiplier"] = noise
    return dp.PrivacyEngine(model, sample_size=size, batch_size=batch_size, **options)


def expected_gradients(loss_fn, model, data, step, batch_size=8, size=60):
    """What `PrivateGrad` releases in this step, without noise."""
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(0.5),
        noise=dp.GaussianNoise(0.0, key=KEY),
        expected_batch_size=batch_size,
    )
    indices, _ = dp.sampling.poisson(KEY, step, size=size, rate=batch_size / size)
    params = dp.named_params(model)
    batch = tuple(tensor[indices] for tensor in data.tensors)
    return private.update(params, batch, private.init(params))[0]


def assert_equal_gradients(model, expected, rtol=2e-6):
    for name, param in model.named_parameters():
        error = (param.grad - expected[name]).norm()
        assert error <= rtol * expected[name].norm() + 1e-7, name


def loss_of(model):
    """The loss of one sample, of a copy that no engine is attached to."""
    plain = copy.deepcopy(model)

    def loss_fn(params, x, y):
        logits = torch.func.functional_call(plain, params, (x[None],))
        return F.cross_entropy(logits, y[None])

    return loss_fn


def test_the_first_example_of_opacus_with_two_lines():
    model, data = cnn(), images(160)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    engine = dp.PrivacyEngine(
        model,
        sample_size=len(data),
        batch_size=32,
        noise_multiplier=1.3,
        max_grad_norm=1.0,
        delta=1e-5,
        key=dp.key(),
    ).attach(optimizer)
    for x, y in engine.loader(DataLoader(data, batch_size=32, shuffle=True)):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
    event = accounting.dp_sgd(noise_multiplier=1.3, sample_rate=0.2, steps=5)
    assert engine.steps_taken == 5
    assert engine.epsilon() == pytest.approx(accounting.epsilon(event, delta=1e-5), rel=1e-4)
    assert engine.epsilon() >= accounting.epsilon_bounds(event, delta=1e-5).lower


class Siamese(nn.Module):
    """Called twice, with a dict and a keyword, and with a layer that is used twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs, *, scale):
        hidden = self.body(torch.tanh(self.body(inputs["x"])))
        return {"logits": self.head(hidden) * scale, "hidden": hidden}


def pairs(size=60):
    generator = torch.Generator().manual_seed(2)
    draw = lambda: torch.randn(size, 6, generator=generator)  # noqa: E731
    return TensorDataset(draw(), draw(), torch.randint(0, 3, (size,), generator=generator))


@pytest.mark.parametrize("backward_calls", [1, 2])
def test_several_calls_and_several_losses(backward_calls):
    model, data = Siamese(), pairs()
    plain = copy.deepcopy(model)

    def loss_fn(params, left, right, y):
        of = lambda x: torch.func.functional_call(plain, params, ({"x": x[None]},), {"scale": 2.0})  # noqa: E731
        one, two = of(left), of(right)
        distance = (one["hidden"] - two["hidden"]).square().sum()
        return F.cross_entropy(one["logits"], y[None]) + 0.1 * distance

    expected = expected_gradients(loss_fn, model, data, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = engine_for(model).attach(optimizer)
    left, right, y = next(iter(engine.loader(data)))
    one, two = model({"x": left}, scale=2.0), model({"x": right}, scale=2.0)
    first = F.cross_entropy(one["logits"], y)
    second = 0.1 * (one["hidden"] - two["hidden"]).square().sum(1).mean()
    if backward_calls == 1:
        (first + second).backward()
    else:
        first.backward(retain_graph=True)
        second.backward()
    optimizer.step()
    assert_equal_gradients(model, expected)


@pytest.mark.parametrize("place", ["before", "between", "after", "zeros", "nowhere"])
def test_zero_grad_may_be_anywhere(place):
    model, data = cnn(), images()
    loss_fn, start = loss_of(model), copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, weight_decay=0.0)
    engine = engine_for(model).attach(optimizer)
    for step, (x, y) in zip(range(3), engine.loader(data), strict=False):
        if place in ("before", "zeros"):
            optimizer.zero_grad(set_to_none=place == "before")
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if place == "between":
            optimizer.zero_grad(set_to_none=False)
        optimizer.step()
        assert_equal_gradients(model, expected_gradients(loss_fn, start, data, step))
        if place == "after":
            optimizer.zero_grad()


def test_schedulers_evaluation_and_logging_in_between():
    model, data = cnn(), images()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    engine = engine_for(model, noise=1.0).attach(optimizer)
    seen, total = 0.0, 0.0
    for x, y in engine.loader(data):
        logits = model(x)
        loss = F.cross_entropy(logits, y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss  # a tensor of the loop, kept over the batches
        seen += (logits.argmax(1) == y).float().mean().item()
        assert f"{loss:.2f}" == f"{loss.item():.2f}"
        assert {type(loss), type(x)} == {torch.Tensor}
        model.eval()
        model(x).sum()
        model.train()
        with torch.no_grad():
            model(x)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5 ** (8 // 2))
    assert total.item() > 0.0


def test_an_empty_batch_releases_noise_alone():
    model, data = cnn(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = engine_for(model, batch_size=1e-9, noise=1.0, steps=10).attach(optimizer)
    x, y = next(iter(engine.loader(data)))
    assert len(x) == 1
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    released = torch.cat([param.grad.flatten() for param in model.parameters()]) * 1e-9
    assert released.std().item() == pytest.approx(0.5, rel=0.3)
    # The same without noise: the sample that fills up counts nothing.
    quiet = cnn()
    optimizer = torch.optim.SGD(quiet.parameters(), lr=0.1)
    engine = engine_for(quiet, batch_size=1e-9, steps=10).attach(optimizer)
    x, y = next(iter(engine.loader(data)))
    F.cross_entropy(quiet(x), y).backward()
    optimizer.step()
    assert all(not param.grad.any() for param in quiet.parameters())


def test_detach_leaves_no_trace():
    model, data = cnn(), images()
    before = {name: repr(value) for name, value in vars(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = engine_for(model, noise=1.0).attach(optimizer)
    x, y = next(iter(engine.loader(data)))
    F.cross_entropy(model(x), y).backward()
    engine.detach()
    assert type(x) is torch.Tensor
    assert {name: repr(value) for name, value in vars(model).items()} == before
    assert not optimizer._optimizer_step_pre_hooks
    F.cross_entropy(model(x), y).backward()  # an ordinary gradient again
    assert all(param.grad is not None for param in model.parameters())


def test_a_saved_model_is_the_users_own_and_carries_no_secret():
    model = cnn()
    engine_for(model).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    assert type(model) is nn.Sequential
    file = io.BytesIO()
    torch.save(model, file)
    assert KEY.secret_bytes not in file.getvalue()
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for twin in (loaded, copy.deepcopy(model)):
        x = torch.randn(2, 1, 9, 9)
        twin.train()(x).sum().backward()  # no engine looks at it
        torch.testing.assert_close(twin(x), model.eval()(x))
        model.train()


def test_a_run_goes_on_from_its_state_bit_for_bit():
    data = images()

    def run(model, optimizer, engine, steps):
        while engine.steps_taken < steps:
            for x, y in engine.loader(data):
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                if engine.steps_taken == steps:
                    break

    whole = cnn()
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    run(whole, optimizer, engine_for(whole, noise=1.0).attach(optimizer), 10)
    part = cnn()
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    engine = engine_for(part, noise=1.0).attach(optimizer)
    run(part, optimizer, engine, 4)
    file = io.BytesIO()
    torch.save((engine.state_dict(), part.state_dict()), file)
    file.seek(0)
    state, weights = torch.load(file, weights_only=True)
    resumed = cnn()
    resumed.load_state_dict(weights)
    optimizer = torch.optim.SGD(resumed.parameters(), lr=0.1)
    engine = engine_for(resumed, noise=1.0).attach(optimizer)
    engine.load_state_dict(state)
    run(resumed, optimizer, engine, 10)
    for left, right in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)
    assert engine.steps_taken == 10
    with pytest.raises(ValueError, match="a state after the 10 steps that this engine has taken"):
        engine.load_state_dict(state)  # step 4 once more, under its noise
    other = engine_for(cnn(), noise=1.0, key=dp.key(8))
    with pytest.raises(ValueError, match="a state of this key"):
        other.load_state_dict(state)


@pytest.mark.parametrize("left_by", ["break", "an interrupt in the release", "one after it"])
def test_a_loop_that_was_left_midway_counts_no_sample_twice(left_by, monkeypatch):
    data, model = images(), cnn()
    expected = expected_gradients(loss_of(model), model, data, step=int(left_by == "one after it"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = engine_for(model).attach(optimizer)

    def one_step(stop_after=None):
        for number, (x, y) in enumerate(engine.loader(data, microbatch_size=2)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if number + 1 == stop_after or next(model.parameters()).grad is not None:
                return

    def interrupt(*_):
        raise KeyboardInterrupt

    if left_by == "break":
        one_step(stop_after=1)
    else:
        of = (engine._team, "release") if "in the" in left_by else (engine._noise_alone, "saw")
        with monkeypatch.context() as patch:
            patch.setattr(*of, interrupt)
            with pytest.raises(KeyboardInterrupt):
                one_step()
    one_step()
    assert engine.steps_taken == 1 + (left_by == "one after it")
    assert_equal_gradients(model, expected)


def one_epoch(model, optimizer, engine, data):
    for x, y in engine.loader(data):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def test_the_budget_ends_the_run():
    model, data = cnn(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = engine_for(model, target_epsilon=3.0, epochs=1).attach(optimizer)
    assert engine.remaining_steps() >= 8
    one_epoch(model, optimizer, engine, data)
    assert engine.epsilon() <= 3.0
    left = engine.remaining_steps()
    while engine.steps_taken + 8 <= 8 + left:
        one_epoch(model, optimizer, engine, data)
    with pytest.raises(dp.BudgetSpentError, match=r"steps have spent epsilon [23]"):
        one_epoch(model, optimizer, engine, data)
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(dp.BudgetSpentError):
        one_epoch(model, optimizer, engine, data)
    assert engine.remaining_steps() == 0
    assert engine.epsilon() <= 3.0
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_callback_in_the_place_of_the_error():
    model, data, called = cnn(), images(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = engine_for(model, noise=1.0, steps=3, on_budget_spent=called.append)
    engine.attach(optimizer)
    one_epoch(model, optimizer, engine, data)
    assert engine.steps_taken == 3
    assert called == [engine]


def test_workers_and_custom_collate():
    model, data = cnn(), images(24)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = engine_for(model, size=24, batch_size=6).attach(optimizer)

    def collate(samples):
        x, y = zip(*samples, strict=True)
        return {"x": torch.stack(x), "y": torch.stack(y), "name": "batch"}

    for batch in engine.loader(data, num_workers=2, collate_fn=collate):
        F.cross_entropy(model(batch["x"]), batch["y"]).backward()
        optimizer.step()
    assert engine.steps_taken == 4
    loss_fn = loss_of(model)
    assert_equal_gradients(
        model, expected_gradients(loss_fn, copy.deepcopy(model), data, 3, batch_size=6, size=24)
    )


def test_autocast_in_the_loop():
    model, data = cnn(), images()
    loss_fn, start = loss_of(model), copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = engine_for(model).attach(optimizer)
    for step, (x, y) in zip(range(2), engine.loader(data), strict=False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        expected = expected_gradients(loss_fn, start, data, step)
        assert_equal_gradients(model, expected, rtol=0.05)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(81, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 5)
        )

    def forward(self, x):
        return self.net[4:](checkpoint(self.net[:4], x, use_reentrant=False))


def test_activation_checkpointing():
    model, data = Checkpointed(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    expected = expected_gradients(loss_of(model.net), model.net, data, 0)
    engine = engine_for(model).attach(optimizer)
    x, y = next(iter(engine.loader(data)))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert_equal_gradients(model.net, expected)


def test_frozen_layers_and_dropout():
    model, data = cnn(), images()
    model.insert(5, nn.Dropout(0.3))
    model[0].requires_grad_(False)
    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    engine = engine_for(model, noise=1.0).attach(optimizer)
    frozen = model[0].weight.clone()
    one_epoch(model, optimizer, engine, data)
    assert torch.equal(model[0].weight, frozen)
    assert model[0].weight.grad is None


def by_a_size(losses):
    return losses.unflatten(0, torch.Size((len(losses), 1))).mean()


def by_numbers(losses):
    return losses.view(len(losses) * 1, 1).reshape(1, len(losses)).expand(1, len(losses)).mean()


@pytest.mark.parametrize("reduce", [by_a_size, by_numbers])
def test_a_loss_that_states_the_size_of_the_batch(reduce):
    model, data = cnn(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    expected = expected_gradients(loss_of(model), model, data, 0)
    engine = engine_for(model).attach(optimizer)
    x, y = next(iter(engine.loader(data)))
    reduce(F.cross_entropy(model(x), y, reduction="none")).backward()
    optimizer.step()
    assert_equal_gradients(model, expected)


def test_outputs_that_cancel_by_the_million():
    """Rounding of their sum is no mixing of samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(81, 1), nn.Linear(1, 500_000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = engine_for(model).attach(optimizer)
    x, _ = next(iter(engine.loader(images())))
    model(x).square().mean(1).mean().backward()
    optimizer.step()
    assert engine.steps_taken == 1
