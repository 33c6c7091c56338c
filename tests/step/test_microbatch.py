"""`microbatch_size="auto"`: the largest that fits, the same result, and nothing of the data."""

import pytest
import torch
import torch.nn.functional as F

import dpfunc as dp
from dpfunc.step.memory import peak_bytes
from dpfunc.step.microbatch import in_microbatches
from tests.laws.matrix import ENGINE_NAMES

KEY = dp.key(4)
PARAMS = {"w": dp.normal(KEY, (40, 30)), "v": dp.normal(KEY, (40,))}
BATCH = (dp.normal(dp.key(5), (100, 30)),)
MIB = 2**20


def loss_fn(params, x):
    return F.linear(x, params["w"]).tanh() @ params["v"]


def private_grad(budget=None, size="auto", **changes):
    options = {
        "clip": dp.Clip(0.5),
        "noise": dp.GaussianNoise(1.0, key=KEY),
        "expected_batch_size": 100,
        "microbatch_size": size,
        "memory_budget": budget,
    }
    return dp.PrivateGrad(loss_fn, **(options | changes))


class Watched:
    """A `PrivateGrad` that notes the sizes of its microbatches."""

    def __init__(self, private):
        self.private, self.sizes = private, []

    def update(self, params, batch):
        def noted(params, args, clip_state, mask):
            self.sizes.append(len(mask))
            return self.private.clipped_sum(params, args, clip_state, mask)

        return self.private.update_by(noted, params, batch, self.private.init(params))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_it_changes_rounding_alone_and_uses_the_budget(engine):
    whole, _, _ = private_grad(None, None, engine=engine).update(
        PARAMS, BATCH, private_grad().init(PARAMS)
    )
    sizes = []
    for budget in (MIB // 20, MIB // 10, MIB):
        watched = Watched(private_grad(budget, engine=engine))
        grads, _, _ = watched.update(PARAMS, BATCH)
        torch.testing.assert_close(grads, whole, rtol=1e-5, atol=1e-6)
        sizes.append(watched.sizes[0])
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("budget", [MIB // 20, MIB // 4])
def test_a_real_step_stays_within_the_budget_and_the_next_size_does_not(engine, budget):
    private = private_grad(budget, engine=engine)
    watched = Watched(private)
    watched.update(PARAMS, BATCH)
    size = watched.sizes[0]

    def peak(size):
        batch = tuple(part.repeat(3, 1)[: 2 * size] for part in BATCH)
        mask = torch.ones(2 * size, dtype=torch.bool)
        mask[::size] = False  # to replace what is dropped takes more memory than dropping nothing
        return peak_bytes(
            lambda: in_microbatches(private.clipped_sum, PARAMS, batch, {}, mask, size)
        )

    assert peak(size) <= budget
    assert size >= len(BATCH[0]) or peak(size + max(2, size // 8)) > budget


def test_the_size_does_not_depend_on_the_values_of_the_data():
    sizes = set()
    for x in (BATCH[0], torch.zeros(100, 30), torch.full((100, 30), float("nan"))):
        watched = Watched(private_grad(MIB // 10))
        watched.update(PARAMS, (x,))
        sizes.add(tuple(watched.sizes))
    assert len(sizes) == 1


def test_it_is_counted_once_for_batches_of_similar_size(monkeypatch):
    private, counted = private_grad(MIB // 10), []
    monkeypatch.setattr(
        "dpfunc.step.private_grad.largest_microbatch", lambda *args: counted.append(args[-2]) or 7
    )
    for size in (100, 90, 65, 100, 30, 20, 0, 1):
        watched = Watched(private)
        watched.update(PARAMS, (BATCH[0][:size],))
        assert max(watched.sizes) == min(7, size)
    assert counted == [128, 32, 1]


def test_half_of_the_free_memory_is_the_default(monkeypatch):
    budgets = []
    monkeypatch.setattr("dpfunc.step.private_grad.free_bytes", lambda device: 1000 * MIB)
    monkeypatch.setattr(
        "dpfunc.step.private_grad.largest_microbatch", lambda *args: budgets.append(args[-1]) or 7
    )
    Watched(private_grad()).update(PARAMS, BATCH)
    assert budgets == [500 * MIB]


def test_compiled_steps_take_it_too():
    fast = dp.compile(private_grad(MIB // 10), backend="aot_eager")
    state = fast.init(PARAMS)
    grads, _, _ = fast.update(PARAMS, BATCH, state)
    expected, _, _ = private_grad(None, None).update(PARAMS, BATCH, state)
    torch.testing.assert_close(grads, expected, rtol=1e-5, atol=1e-6)


def test_what_it_refuses():
    with pytest.raises(ValueError, match='microbatch_size >= 1, "auto" or None'):
        private_grad(None, "large")
    with pytest.raises(ValueError, match="beside microbatch_size"):
        private_grad(MIB, 8)
    with pytest.raises(ValueError, match="memory_budget as a number of bytes"):
        private_grad(0.5)
    with pytest.raises(ValueError, match="a loss of one sample"):
        dp.PrivateGrad(
            dp.batched(loss_fn),
            clip=dp.Clip(1.0),
            noise=dp.GaussianNoise(1.0, key=KEY),
            expected_batch_size=1,
            microbatch_size="auto",
        )
    with pytest.raises(ValueError, match="memory_budget of at least"):
        private_grad(10).update(PARAMS, BATCH, private_grad().init(PARAMS))
