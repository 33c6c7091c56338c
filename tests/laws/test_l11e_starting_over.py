"""L11, for loops that start over within a batch, or mix two loaders: a record counts once."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import dpfunc as dp

SIZE, KEY = 40, dp.key(5)


def begun(**options):
    """An engine without noise, a loader, and what takes so many parts of it: ``take(n)``."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = TensorDataset(dp.normal(dp.key(1), (SIZE, 3)), torch.arange(SIZE) % 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=12,
        noise_multiplier=0.0,
        max_grad_norm=1e-3,
        delta=1e-3,
        key=KEY,
    ).attach(optimizer)
    loader = engine.loader(data, **options)

    def take(parts, step=True):
        for x, y in islice(loader, parts):
            F.cross_entropy(model(x), y).backward()
            if step:
                optimizer.step()
            if engine.steps_taken == 1:
                break
        return model.weight.grad

    return engine, loader, take


@pytest.mark.parametrize(("size", "step"), [(3, True), (3, False), (None, False)])
def test_a_loop_that_starts_over_within_a_batch_counts_each_record_once(size, step):
    """With the first parts twice a record would move the sum by twice the bound."""
    _, _, take = begun(microbatch_size=size)
    expected = take(99).clone()
    engine, _, take = begun(microbatch_size=size)
    take(1, step=step)
    assert engine.steps_taken == 0
    assert torch.equal(take(99), expected)


def test_parts_of_two_loaders_at_once():
    engine, _, take = begun(microbatch_size=3)
    take(2)
    parts = engine.parts(4)
    with pytest.raises(RuntimeError, match="expected part 2 of the batch but got 'part 1'"):
        engine.announce(parts.of(0)[1], [])
    assert len(take(99)) == 2
    assert engine.steps_taken == 1


def test_batches_out_of_order_are_refused():
    """One of a later step would come again at that step, and its records with it."""
    with pytest.raises(ValueError, match=r"PrivacyEngine\.loader: expected in_order=True but got"):
        begun(in_order=False)
    begun(in_order=True)


class Interrupted(dict):
    def __getitem__(self, name):
        if name == "bias":
            raise KeyboardInterrupt
        return super().__getitem__(name)


def test_what_was_released_is_counted_before_an_interrupt_can_leave_it_in_sight(monkeypatch):
    engine, _, take = begun()
    release = engine._team.release

    def interrupted(*given):
        grads, state = release(*given)
        return Interrupted(grads), state

    monkeypatch.setattr(engine._team, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        take(1)
    assert engine.steps_taken == engine._state["noise"]["step"] == 1
    monkeypatch.undo()
    take(1)  # the batch of the next step, without what was left behind
    assert engine.steps_taken == engine._state["noise"]["step"] == 2
