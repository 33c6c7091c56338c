"""L6 for state: a clip rule that learns sees every sample once, whatever way the batch comes; and
what a run is made of does not change on the way."""

import copy
import io
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc import accounting
from dpfunc.types import Weights
from tests.laws.matrix import ENGINE_NAMES, Setting, flat, loss_fn, setting

CLOSE = {"rtol": 1e-12, "atol": 1e-14}


@dataclass(frozen=True)
class Moving:
    """A threshold that follows the norms that it has seen, in order. Not private: a test's own."""

    start: float = 0.5
    query_multiplier = math.inf  # a lie, where nothing is accounted

    def init(self):
        return {"bound": self.start, "seen": 0, "last": torch.zeros(0, dtype=torch.float64)}

    def weights(self, norms, state):
        whole = dp.global_norm(norms)
        weight = torch.where(whole.isfinite(), (state["bound"] / whole).clamp(max=1.0), 0.0)
        return Weights(dict.fromkeys(norms, weight), state["bound"])

    def update(self, norms, mask: Tensor, state):
        """The order counts: later samples weigh more."""
        own = dp.global_norm(norms)[mask].double().clamp(max=3 * state["bound"])
        bound = state["bound"]
        for norm in own.tolist():
            bound = 0.9 * bound + 0.1 * max(norm, 0.1)
        return {"bound": bound, "seen": state["seen"] + len(own), "last": own}


def private_grad(engine, *, microbatch=None):
    return dp.PrivateGrad(
        loss_fn,
        clip=Moving(),
        noise=dp.GaussianNoise(0.0, key=dp.key(2)),
        expected_batch_size=6.0,
        microbatch_size=microbatch,
        engine=engine,
    )


def several_steps(private, batches, state=None):
    """The sums of some steps, each on a batch of its own, and the state after them."""
    state = private.init({}) if state is None else state
    out = []
    for at, mask in batches:
        grads, state, _ = private.update(at.params, (at.x, at.y), state, mask)
        out.append(flat(grads))
    return torch.stack(out), state


def batches(count: int = 4):
    at = setting(torch.float64, "cpu")
    return [(Setting(at.params, at.x * (k + 1), at.y.roll(k, 0)), None) for k in range(count)]


def padded(at: Setting, places: list[int], junk: float):
    """With samples that do not count in these places of the batch."""
    x, y = at.x, at.y
    mask = torch.ones(len(x) + len(places), dtype=torch.bool)
    for place in places:
        x = torch.cat([x[:place], torch.full_like(x[:1], junk), x[place:]])
        y = torch.cat([y[:place], torch.full_like(y[:1], 7.0), y[place:]])
    mask[places] = False
    return Setting(at.params, x, y), mask


@pytest.mark.parametrize("junk", [1e6, math.nan])
@pytest.mark.parametrize("places", [[6, 7], [0, 3]], ids=str)
@pytest.mark.parametrize("microbatch", [None, 1, 3])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_padding_teaches_nothing(engine, microbatch, places, junk):
    plain, state = several_steps(private_grad(engine), batches())
    with_padding = [padded(at, places, junk) for at, _ in batches()]
    private = private_grad(engine, microbatch=microbatch)
    found, other = several_steps(private, with_padding)
    torch.testing.assert_close(found, plain, **CLOSE)
    torch.testing.assert_close(other["clip"], state["clip"], **CLOSE)
    assert state["clip"]["seen"] == 24
    assert abs(state["clip"]["bound"] - 0.5) > 0.1


@pytest.mark.parametrize("microbatch", [1, 2, 4, 100])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_microbatches_teach_what_the_whole_batch_does(engine, microbatch):
    """Once a batch: all of its parts are clipped at what was known before it."""
    plain, state = several_steps(private_grad(engine), batches())
    found, other = several_steps(private_grad(engine, microbatch=microbatch), batches())
    torch.testing.assert_close(found, plain, **CLOSE)
    torch.testing.assert_close(other["clip"], state["clip"], **CLOSE)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_saved_and_loaded_it_goes_on(engine):
    private, every = private_grad(engine), batches()
    straight, state = several_steps(private, every)
    first, half = several_steps(private, every[:2])
    file = io.BytesIO()
    torch.save(half, file)
    file.seek(0)
    second, other = several_steps(private, every[2:], torch.load(file, weights_only=True))
    assert torch.equal(torch.cat([first, second]), straight)
    torch.testing.assert_close(other["clip"], state["clip"], rtol=0.0, atol=0.0)


# The same in an ordinary loop

DATA = TensorDataset(setting(torch.float64, "cpu").x.repeat(6, 1), torch.arange(36) % 3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def attached(model, *, clip=None, **options):
    options = {"noise_multiplier": 1.0, **options}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    engine = dp.PrivacyEngine(
        model, sample_size=36, batch_size=6, delta=1e-5, key=dp.key(5), clip=clip or Moving(),
        **options,
    )  # fmt: skip
    return engine.attach(optimizer), optimizer


def parts_of_steps(engine, optimizer, model, *, parts: int, microbatch_size=2):
    """So many parts of batches, each with its step; the last one may be in the middle of one."""
    while parts > 0:
        for x, y in engine.loader(DATA, microbatch_size=microbatch_size):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            parts -= 1
            if parts == 0:
                return


@pytest.mark.parametrize("stopped_after", [1, 5, 8])
def test_a_run_that_stops_in_the_middle_of_a_batch_goes_on_from_its_beginning(stopped_after):
    def finished(engine, optimizer, model):
        while engine.steps_taken < 6:
            parts_of_steps(engine, optimizer, model, parts=1, microbatch_size=None)
        return torch.cat([param.detach().flatten() for param in model.parameters()])

    whole = network()
    straight = finished(*attached(whole), whole)
    model = network()
    engine, optimizer = attached(model)
    parts_of_steps(engine, optimizer, model, parts=stopped_after)
    kept = copy.deepcopy((engine.state_dict(), model.state_dict()))
    assert kept[0]["steps"] < 6
    resumed = network()
    resumed.load_state_dict(kept[1])
    engine, optimizer = attached(resumed)
    engine.load_state_dict(kept[0])
    torch.testing.assert_close(finished(engine, optimizer, resumed), straight, **CLOSE)


@pytest.mark.parametrize("change", ["frozen", "thawed", "both"])
@pytest.mark.parametrize("when", ["before the first step", "after two steps"])
def test_layers_frozen_and_thawed_on_the_way_are_refused(change, when):
    """Before anything more is released."""
    model = network()
    model[0].requires_grad_(change == "frozen")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3)
    engine = dp.PrivacyEngine(
        model, sample_size=36, batch_size=6, delta=1e-5, key=dp.key(5), max_grad_norm=1.0,
        noise_multiplier=1.0,
    )  # fmt: skip
    engine.attach(optimizer)
    if when != "before the first step":
        parts_of_steps(engine, optimizer, model, parts=2, microbatch_size=None)
    model[0].requires_grad_(change != "frozen")
    if change == "both":
        model[2].requires_grad_(False)
    before, taken = copy.deepcopy(model.state_dict()), engine.steps_taken
    with pytest.raises(RuntimeError, match="PrivacyEngine: expected"):
        parts_of_steps(engine, optimizer, model, parts=1, microbatch_size=None)
    assert engine.steps_taken == taken
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("steps", [3, 10_000])
def test_steps_noise_and_target_together_stop_within_the_target(steps):
    engine, _ = attached(network(), noise_multiplier=2.0, target_epsilon=1.0, steps=steps)
    most = engine.remaining_steps()
    event = accounting.dp_sgd(noise_multiplier=2.0, sample_rate=1 / 6, steps=most)
    assert engine.noise_multiplier == 2.0
    assert 0 < most <= steps
    assert accounting.epsilon(event, delta=1e-5) <= 1.0
