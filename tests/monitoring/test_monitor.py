"""The monitor writes what was spent, once for each step, and says what is not private."""

import builtins
import math
from itertools import chain, repeat

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import dpfunc as dp

DATA = TensorDataset(torch.arange(120.0).reshape(40, 3).sin(), torch.arange(40) % 2)


class Kept:
    """A sink that keeps everything."""

    def __init__(self):
        self.rows, self.closed = [], False

    def write(self, step, scalars):
        self.rows.append((step, dict(scalars)))

    def close(self):
        self.closed = True


def train(*, batch_size=40, microbatch_size=None, max_grad_norm=1.0, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = dp.PrivacyEngine(
        model,
        sample_size=40,
        batch_size=batch_size,
        steps=3,
        noise_multiplier=1.3,
        max_grad_norm=max_grad_norm,
        delta=1e-3,
        key=dp.key(4),
        on_budget_spent=lambda _: None,
    ).attach(optimizer)
    losses = []
    with dp.monitor(engine, **options) as monitor:
        loader = engine.loader(DATA, microbatch_size=microbatch_size)
        for x, y in chain.from_iterable(repeat(loader, 4)):  # ends when the steps are taken
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss, public={"accuracy": 0.5})
            losses.append(loss.item())
    return engine, losses


def test_each_step_is_written_once():
    sink = Kept()
    engine, losses = train(progress=None, sinks=[sink])
    assert sink.closed
    assert [step for step, _ in sink.rows] == [1, 2, 3]
    for (step, scalars), loss in zip(sink.rows, losses, strict=True):
        assert scalars["epsilon"] == engine.budget.epsilon(step)
        assert scalars["remaining_steps"] == 3 - step
        assert scalars["not_private/loss"] == pytest.approx(loss)
        assert scalars["accuracy"] == 0.5
        private = {"epsilon", "remaining_steps", "accuracy"}
        assert all(name in private or name.startswith("not_private/") for name in scalars)


def test_parts_of_a_batch_are_averaged():
    sink = Kept()
    _, losses = train(progress=None, sinks=[sink], microbatch_size=15)
    assert len(sink.rows) == 3 < len(losses)
    assert sink.rows[0][1]["not_private/loss"] == pytest.approx(sum(losses[:3]) / 3)


@pytest.mark.parametrize(("max_grad_norm", "share"), [(1e-6, 1.0), (1e6, 0.0)])
def test_the_share_of_samples_that_were_clipped(max_grad_norm, share):
    sink = Kept()
    train(progress=None, sinks=[sink], max_grad_norm=max_grad_norm)
    assert {scalars["not_private/clipped"] for _, scalars in sink.rows} == {share}


def test_the_share_in_between_is_counted():
    model, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = dp.PrivacyEngine(
        model,
        sample_size=4,
        batch_size=4,
        noise_multiplier=1.0,
        max_grad_norm=2.5,
        delta=1e-3,
        key=dp.key(1),
    ).attach(optimizer)
    assert math.isnan(engine.clipped_share())
    for (batch,) in engine.loader(TensorDataset(x)):
        model(batch).mean().backward()
        optimizer.step()
    assert engine.clipped_share() == 0.5


def test_a_batch_without_samples_has_no_share():
    sink = Kept()
    train(progress=None, sinks=[sink], batch_size=1e-6)
    assert all("not_private/clipped" not in scalars for _, scalars in sink.rows)


def test_the_bar_of_tqdm(capsys):
    pytest.importorskip("tqdm", reason="needs tqdm")
    train(progress="tqdm")
    text = capsys.readouterr().err
    assert "3/3" in text
    assert "epsilon=" in text
    assert "not private: loss=" in text


def test_the_bar_of_rich(capsys):
    pytest.importorskip("rich", reason="needs rich")
    train(progress="rich")
    text = capsys.readouterr().out
    assert "3/3" in text
    assert "epsilon=" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    engine, _ = train(progress=None, tensorboard=str(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    written = events.Scalars("epsilon")
    assert [event.step for event in written] == [1, 2, 3]
    assert written[-1].value == pytest.approx(engine.epsilon(), rel=1e-6)
    assert "not_private/loss" in events.Tags()["scalars"]


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("tqdm", "rich") or name == "torch.utils.tensorboard":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for options in ({"progress": "tqdm"}, {"progress": "rich"}, {"tensorboard": "runs"}):
        with pytest.raises(ImportError, match=r"pip install 'dpfunc\[monitor\]'"):
            train(**options)


def test_an_unknown_bar_is_refused():
    with pytest.raises(ValueError, match="expected progress to be one of"):
        train(progress="dots")
