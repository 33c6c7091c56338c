"""Slips that would pass in silence: an engine that is on no optimizer, a budget of nobody's run."""

import gc

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

import dpfunc as dp

KEY = dp.key(3)


def data(size=60):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 6, generator=generator)
    return TensorDataset(x, torch.randint(0, 4, (size,), generator=generator))


def make(model, **options):
    if "data" not in options:
        options = {"sample_size": 60, "batch_size": 12} | options
    options = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5} | options
    return dp.PrivacyEngine(model, key=KEY, **options)


def train(model, optimizer, batches):
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def network():
    model = nn.Linear(6, 4)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_attach_forgotten_in_a_loop_over_the_engines_loader():
    model, _ = network()
    engine = make(model)
    with pytest.raises(RuntimeError, match=r"one that never was'; call engine.attach\(optimizer\)"):
        next(iter(engine.loader(data())))


def test_attach_forgotten_in_a_loop_over_another_loader():
    model, optimizer = network()
    engine = make(model)
    assert engine.epsilon() == 0.0
    train(model, optimizer, DataLoader(data(), batch_size=12))
    with pytest.raises(RuntimeError, match=r"they were not private'; call engine.attach"):
        engine.epsilon()


def test_an_optimizer_of_another_model_is_nobodys_slip():
    engine = make(network()[0])
    other, optimizer = network()
    train(other, optimizer, DataLoader(data(), batch_size=12))
    assert engine.epsilon() == 0.0


def test_plain_training_after_detach_is_no_slip():
    model, optimizer = network()
    with make(model).attach(optimizer) as engine:
        train(model, optimizer, engine.loader(data()))
    spent = engine.epsilon()
    train(model, optimizer, DataLoader(data(), batch_size=12))
    assert engine.epsilon() == spent > 0
    with pytest.raises(RuntimeError, match="one that was detached"):
        next(iter(engine.loader(data())))


def test_a_checkpoint_loaded_before_the_first_step_is_no_slip():
    model, _ = network()
    engine = make(model)
    model.load_state_dict(network()[0].state_dict())
    assert engine.epsilon() == 0.0


@pytest.mark.parametrize("attached", [False, True])
def test_nothing_watches_optimizers_for_an_engine_that_is_gone(attached):
    gc.collect()  # engines of other tests
    before = len(torch_optimizer._global_optimizer_post_hooks)
    model, optimizer = network()
    engine = make(model)
    if attached:
        engine.attach(optimizer)
        assert len(torch_optimizer._global_optimizer_post_hooks) == before
    del engine
    gc.collect()
    assert len(torch_optimizer._global_optimizer_post_hooks) == before


def test_with_detaches_after_an_error_too():
    model, optimizer = network()
    with pytest.raises(ZeroDivisionError), make(model).attach(optimizer):
        raise ZeroDivisionError
    train(model, optimizer, DataLoader(data(), batch_size=12))  # a plain model again


def test_sizes_come_from_a_loader():
    model, optimizer = network()
    loader = DataLoader(data(), batch_size=12, shuffle=True)
    engine = make(model, data=loader).attach(optimizer)
    assert (engine.sample_size, engine.budget.sample_rate) == (60, 0.2)
    train(model, optimizer, engine.loader(loader))
    assert engine.epsilon() == make(model).budget.epsilon(5)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_size": None, "batch_size": None}, "got 'no sample_size and no batch_size'"),
        ({"sample_size": None}, "got 'no sample_size'; pass"),
        ({"data": DataLoader(data(), batch_size=12), "sample_size": 60}, "neither sample_size nor"),
        ({"data": data()}, "a DataLoader as data"),
        ({"data": DataLoader(Stream(), batch_size=3)}, "of a dataset that is read by index"),
        ({"data": DataLoader(data(), batch_size=None)}, "a DataLoader with a batch_size"),
        (
            {"data": DataLoader(data(), batch_size=12, sampler=SubsetRandomSampler([1, 2]))},
            "without a sampler",
        ),
    ],
)
def test_sizes_that_are_missing_or_said_twice(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(network()[0], **options)


def test_repr_says_how_it_stands():
    model, optimizer = network()
    engine = make(model)
    assert repr(engine) == (
        "PrivacyEngine(Linear, sample_size=60, noise_multiplier=1, steps_taken=0, not attached)"
    )
    assert repr(engine.attach(optimizer)).endswith("steps_taken=0, attached)")


def test_a_delta_that_allows_to_publish_a_record_warns():
    with pytest.warns(UserWarning, match=r"delta = 0.02 is not below 1 / sample_size = 0.017"):
        make(network()[0], delta=0.02)
    make(network()[0], delta=0.016)


def test_the_budget_is_said_to_be_spent_once():
    model, optimizer = network()
    said = []
    engine = make(model, steps=3, on_budget_spent=said.append).attach(optimizer)
    train(model, optimizer, engine.loader(data()))
    train(model, optimizer, engine.loader(data()))
    assert (said, engine.steps_taken) == ([engine], 3)
