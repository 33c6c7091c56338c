"""L7 for looks that cost little: what they still find, in any length, and what they cost.

A batch in which parts disagree with the gradients that are held is looked at as before looks were
cheap. So what has to be shown is that a dependence makes parts disagree: every kind, through
`batched` and through an engine, as often as promised; and how many samples run for it.
"""

import logging
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc.persample.factors.forms import Dense
from dpfunc.persample.watching.capture import Tape
from dpfunc.persample.whole_batch import parts
from dpfunc.persample.whole_batch.schedule import Due
from dpfunc.random.subsets import permutation
from tests.laws.losses import each_told_apart

REFUSED = r"alone as in a batch|held for others|keeps its samples apart|of one term for each"


def numbers(seed: int, *shape: int) -> Tensor:
    return dp.normal(dp.key(seed), shape, dtype=torch.float64)


class Words(nn.Module):
    """A sum over positions ``[B, T, 4]``, after ``change`` has had a look at the samples."""

    def __init__(self, change=lambda x: x, p: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.dropout = nn.Dropout(p)
        self.change, self.samples, self.calls = change, 0, 0
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.samples, self.calls = self.samples + len(x), self.calls + 1
        hidden = self.dropout(self.first(x).tanh())
        return self.second(self.change(hidden)).sum(1)


class Loop:
    """Takes batches of any length through an engine; all samples are in each batch."""

    def __init__(self, model: nn.Module, size: int = 12) -> None:
        self.model, self.size = model, size
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        self.engine = dp.PrivacyEngine(
            model, sample_size=size, batch_size=size, delta=1e-3, key=dp.key(5), max_grad_norm=1.0,
            noise_multiplier=1.0,
        ).attach(self.optimizer)  # fmt: skip

    def step(self, x: Tensor) -> None:
        data = TensorDataset(x, torch.arange(self.size) % 3)
        for batch, y in self.engine.loader(data):
            F.cross_entropy(self.model(batch), y).backward()
            self.optimizer.step()


def by_engine(change, size=12, p=0.0):
    loop = Loop(Words(change, p), size)
    return loop.step


def by_batched(change, size=12):
    model = Words(change)
    loss = dp.batched(lambda p, x: each_told_apart(torch.func.functional_call(model, p, (x,))))
    return lambda x: dp.factored_grad(loss)(dp.named_params(model), x)


WAYS = {
    "batched": by_batched,
    "engine": by_engine,
    "engine, with dropout": lambda change: by_engine(change, p=0.3),
}

MIXING = {
    "numbers": lambda x: x + x.detach().mean(0, keepdim=True),
    "gradients": lambda x: x + (x - x.detach()).mean(0, keepdim=True),
    "both": lambda x: x - x.mean(0, keepdim=True),
    "the neighbour": lambda x: x + 0.1 * x.roll(1, 0),
    "when not alone": lambda x: x * (1 + 0.01 * (len(x) > 1)),
    "the largest": lambda x: x / x.detach().abs().max(),
}


@pytest.mark.parametrize("begins", [1, 3, 5])
@pytest.mark.parametrize("kind", MIXING)
@pytest.mark.parametrize("way", WAYS)
def test_what_begins_at_a_batch_is_refused_by_twice_that_whatever_the_lengths(way, kind, begins):
    """No two batches have one length: a look at the structure meets it, or one at the length."""
    on = False
    take = WAYS[way](lambda x: MIXING[kind](x) if on else x)

    def up_to_twice() -> None:
        nonlocal on
        for number in range(1, 2 * begins + 1):
            on = number >= begins
            take(numbers(number, 12, 3 + number, 4))

    with pytest.raises(RuntimeError, match=REFUSED):
        up_to_twice()
    assert on


@pytest.mark.parametrize("kind", MIXING)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_so_at_one_length_alone_is_refused_at_its_first_batch(way, kind):
    """The eleventh batch, which no look at the structure is due for."""
    take = WAYS[way](lambda x: MIXING[kind](x) if x.shape[1] == 9 else x)
    for number in range(10):
        take(numbers(number, 12, 3 + number % 2, 4))
    with pytest.raises(RuntimeError, match=REFUSED):
        take(numbers(10, 12, 9, 4))


@pytest.mark.parametrize("begins", [1, 2, 3, 5, 6])
def test_what_begins_at_a_batch_of_its_length_is_refused_by_twice_that(begins):
    """Every other batch has this length, so that looks at the structure come at the other one."""
    on = False
    take = by_engine(lambda x: MIXING["numbers"](x) if on and x.shape[1] == 9 else x)

    def up_to_twice() -> None:
        nonlocal on
        for number in range(1, 2 * begins + 1):
            take(numbers(number, 12, 3, 4))
            on = number >= begins
            take(numbers(number, 12, 9, 4))

    with pytest.raises(RuntimeError, match=REFUSED):
        up_to_twice()
    assert on


def test_two_samples_of_sixty_that_change_places_are_found_at_every_look():
    """There and back again, in batches of all of them: losses are right, gradients are not."""

    def loss_fn(p, x):
        order = list(range(len(x)))
        if len(x) == 60:
            order[10], order[20] = 20, 10
        turned = torch.stack([x[i] for i in order]) @ p["w"]
        back = torch.stack([turned[i] for i in order])
        return each_told_apart(back) + x @ p["v"]

    params = {"w": numbers(1, 3, 2), "v": numbers(3, 3)}
    for seed in range(4):
        with pytest.raises(RuntimeError, match="held for others"):
            dp.factored_grad(dp.batched(loss_fn))(params, numbers(seed, 60, 3))


def marked(x: Tensor) -> Tensor:
    """The sample that begins with a large number is another one alone than in a batch."""
    is_marked = (x[:, :1, :1].detach().abs() > 0.999).to(x.dtype)
    return x * (1 + is_marked * (len(x) > 1))


@pytest.mark.parametrize("lengths", ["one", "many"])
@pytest.mark.parametrize("place", range(4))
def test_what_shows_in_one_sample_of_sixty_is_found_where_it_is_looked_at(
    place, lengths, monkeypatch
):
    """Alone are the first three of an order at random: three looks of sixty find it.

    In the third batch: in the two before it nothing shows.
    """
    on = False
    loop = Loop(Words(lambda x: marked(x) if on else x), 60)
    x = numbers(1, 60, 3, 4)
    for _ in range(2):
        loop.step(x)
    on, x = True, torch.cat([x, x[:, : 2 * (lengths == "many")]], 1)
    x[-1, 0] = 30 * loop.model.first.weight[0].detach().sign()

    def order(key, size):
        others = [at for at in permutation(key, size) if at != 59]
        return torch.tensor([*others[:place], 59, *others[place:]])

    monkeypatch.setattr(parts, "permutation", order)
    if place < 3:
        with pytest.raises(RuntimeError, match=REFUSED):
            loop.step(x)
    else:
        loop.step(x)


def test_those_that_are_looked_at_alone_are_any():
    for due in (Due.BRIEFLY, Due.CLOSELY):
        singles = [few for _ in range(200) for few in parts._few(12, due, 0) if len(few) == 1]
        assert {int(at) for at in singles} == set(range(12))  # but for a chance of 4e-7


def run(lengths: list[int], p: float = 0.0) -> tuple[Words, int]:
    """The model after a batch of each length, and how many samples were in them."""
    loop = Loop(Words(p=p), 40)
    for number, length in enumerate(lengths):
        loop.step(numbers(number, 40, length, 4))
    return loop.model, 40 * len(lengths)


def test_looks_at_batches_of_one_length_cost_a_few_batches():
    """Of 40 batches the seven looks are at those after 0, 1, 2, 4, 8, 16 and 32: each runs all the
    samples once more, in two parts, and single ones."""
    model, samples = run([7] * 40)
    assert model.calls <= 40 + 7 * 6 + 13
    assert model.samples <= samples + 7 * (40 + 6) + 50


def test_looks_at_a_model_that_draws_run_the_batch_once_more_without_chance():
    model, samples = run([7] * 40, p=0.5)
    # Beside that, at what it draws with: some 5 + 3 + 3 samples, in the model alone.
    assert model.calls <= 40 + 7 * (7 + 7) + 13
    assert model.samples <= samples + 7 * (80 + 6 + 24) + 50


def test_looks_at_batches_that_are_padded_cost_a_few_samples_each():
    """Of 40 batches of 40 lengths: a forward pass of a prime number of samples, and two alone."""
    model, samples = run(list(range(3, 43)))
    assert model.calls <= 40 + 7 * 6 + 13 + 40 * 3
    assert model.samples <= samples + 7 * (40 + 6) + 50 + 40 * 15


@pytest.mark.parametrize("way", WAYS)
def test_a_look_that_went_wrong_is_due_again(way):
    """After four batches one is due, and none after five."""
    on = False
    take = WAYS[way](lambda x: MIXING["both"](x) if on else x)
    for number in range(4):
        take(numbers(number, 12, 3, 4))
    on = True
    for number in range(4, 8):
        with pytest.raises(RuntimeError):
            take(numbers(number, 12, 3, 4))


def test_what_looks_cost_is_told(caplog):
    """The first of them in the log, all of them by the engine."""
    loop = Loop(Words())
    with caplog.at_level(logging.INFO, logger="dpfunc.engine"):
        for number in range(6):
            loop.step(numbers(number, 12, 3 + number, 4))
    assert [record.message.split(": it took")[0] for record in caplog.records] == ["PrivacyEngine"]
    looks = loop.engine.looks()
    assert (looks.closely, looks.briefly) == (4, 2)  # the first, second, third and fifth batch
    assert looks.seconds > 0


def means_in_place(x: Tensor) -> None:
    """What it makes of the batch it makes of each part of that as well."""
    with torch.no_grad():
        x.copy_(x.mean(0, keepdim=True).expand_as(x))


@pytest.mark.parametrize("way", ["batched", "engine"])
def test_samples_that_are_mixed_in_place_are_refused_when_it_begins(way):
    on = False

    class Mixing(Words):
        def forward(self, x: Tensor) -> Tensor:
            if on:
                means_in_place(x)
            return super().forward(x)

    model = Mixing()
    loss = dp.batched(lambda p, x: each_told_apart(torch.func.functional_call(model, p, (x,))))
    params = dp.named_params(model)
    take = Loop(model).step if way == "engine" else lambda x: dp.factored_grad(loss)(params, x)
    for number in range(3):
        take(numbers(number, 12, 3, 4))
    on = True
    with pytest.raises(RuntimeError, match="work on a copy"):
        take(numbers(3, 12, 3, 4))


def test_a_look_that_went_wrong_at_one_length_is_due_there_whatever_goes_well_at_others():
    take = by_batched(lambda x: MIXING["both"](x) if x.shape[1] == 9 else x)
    for number in range(8):
        take(numbers(number, 12, 3, 4))
        with pytest.raises(RuntimeError):
            take(numbers(number, 12, 9, 4))


def swapped(x: Tensor, number: Tensor) -> Tensor:
    """The first two of a large batch in the place of each other."""
    first, second = ((number == n).reshape(-1, *(1 for _ in x.shape[1:])) for n in (0, 1))
    return torch.where(first, x.roll(-1, 0), torch.where(second, x.roll(1, 0), x))


def test_other_operations_in_a_new_length_are_looked_at_closely():
    def loss_fn(params, x, number):
        if x.shape[1] < 9 or len(x) < 30:
            long = x.shape[1] >= 9
            turned = x @ params["w"][:, None] if long else (x * params["w"]).sum(2, keepdim=True)
        else:
            turned = swapped(swapped(x, number) @ params["w"][:, None], number)
        return turned.sum((1, 2)).square()

    loss, params = dp.batched(loss_fn), {"w": numbers(1, 4)}

    def take(at, length):
        return dp.factored_grad(loss)(params, numbers(at, 60, length, 4), torch.arange(60))

    for number in range(6):
        take(number, 3)
    for length in (9, 10):  # also after it has gone wrong
        with pytest.raises(RuntimeError, match="held for others"):
            take(length, length)


def test_two_of_many_samples_that_are_alike_are_found_where_they_are_held_for_each_other():
    """The gradients of all are one, but for a tenth; those of a large batch would hide two.

    With random weights of either sign they are found in 86 looks of 100, of one sign in none.
    """
    grads = 1 + 0.1 * numbers(1, 4096, 3)
    held = grads.clone()
    held[[0, 1]] = grads[[1, 0]]

    def of_part(samples: Tensor, weights: Tensor) -> dict[str, Tensor]:
        return {"w": (weights[:, None] * grads[samples]).sum(0)}

    def times_found(rows: Tensor) -> int:
        of_batch = parts.Held({"w": Dense(rows)}, rows.norm(dim=1), 1.2e-7)
        looks = (parts.disagreeing(of_batch, of_part, Due.CLOSELY, together=0) for _ in range(20))
        return sum(found is not None for found in looks)

    assert times_found(grads) == 0
    assert times_found(held) >= 9  # less often once in 10**5 runs


def test_a_batch_of_one_sample_is_looked_at_twice_over():
    """It is its only part: nothing that depends on others shows in it."""
    with pytest.raises(RuntimeError, match=REFUSED):
        by_batched(MIXING["when not alone"])(numbers(1, 1, 3, 4))


def mixed_by_a_hook(out: Tensor) -> None:
    out.register_hook(lambda grad: grad + grad.mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("on_batch", "on_outputs", "refused"),
    [
        (means_in_place, lambda out: None, "of one term for each"),
        (lambda x: None, mixed_by_a_hook, "without hooks"),
        (lambda x: x.div_(2), lambda out: None, None),  # each sample for itself
    ],
    ids=["means", "hook", "halves"],
)
def test_what_a_loop_changes_in_place_is_looked_at_as_it_was_before(on_batch, on_outputs, refused):
    loop = Loop(Words())

    def step(on_batch, on_outputs) -> None:
        data = TensorDataset(numbers(1, 12, 3, 4), torch.arange(12) % 3)
        for x, y in loop.engine.loader(data):
            on_batch(x)
            out = loop.model(x)
            on_outputs(out)
            F.cross_entropy(out, y).backward()
            loop.optimizer.step()

    step(lambda x: None, lambda out: None)
    with pytest.raises(RuntimeError, match=refused) if refused else nullcontext():
        step(on_batch, on_outputs)


class MixedAtTimes(Words):
    mixes = "never"

    def forward(self, x: Tensor) -> Tensor:
        mixes = self.mixes == "now" or (self.training and self.mixes == "in training")
        return super().forward(MIXING["both"](x) if mixes else x)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("mixes", ["now", "in training"])
def test_a_model_in_another_mode_before_the_step_is_looked_at_as_it_was_trained(mixes, p):
    model = MixedAtTimes(p=p)
    model.mixes = "never"
    loop, x = Loop(model), numbers(1, 12, 3, 4)
    loop.step(x)  # the first batch is looked at in its forward pass

    def step(batch: Tensor, y: Tensor) -> None:
        model.mixes = mixes
        F.cross_entropy(model(batch), y).backward()  # refused here, where it draws
        model.eval()
        model.mixes = "never" if mixes == "now" else mixes
        loop.optimizer.step()

    for batch, y in loop.engine.loader(TensorDataset(x, torch.arange(12) % 3)):
        with pytest.raises(RuntimeError, match=REFUSED):
            step(batch, y)
    assert loop.engine.steps_taken == 1


@pytest.mark.parametrize(
    ("kind", "is_nan"), [("gradients", False), ("both", False), ("the neighbour", True)]
)
def test_a_model_that_has_changed_before_the_step_is_refused(kind, is_nan):
    """Beside a sample whose gradient is not finite, too."""
    on = False
    loop, x = Loop(Words(lambda x: MIXING[kind](x) if on else x)), numbers(1, 12, 3, 4)
    x[5] = float("nan") if is_nan else x[5]
    loop.step(x)  # the first batch is looked at in its forward pass
    for batch, y in loop.engine.loader(TensorDataset(x, torch.arange(12) % 3)):
        on = True
        F.cross_entropy(loop.model(batch), y).backward()
        on = False
        with pytest.raises(RuntimeError, match="the same gradients again"):
            loop.optimizer.step()


class Switched(nn.Module):
    """Samples ``[B, 4]`` in float32, which ``change`` has had a look at."""

    def __init__(self, change, p: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.dropout, self.change = nn.Dropout(p), change

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.change(self.dropout(self.first(x).tanh())))


@pytest.mark.parametrize("when", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["numbers", "gradients", "both", "the neighbour"])
def test_a_model_that_draws_and_has_changed_before_the_step_is_refused(kind, when):
    """No later run is like the one that drew, so a few samples are looked at in forward."""
    on = False
    loop = Loop(Words(lambda x: MIXING[kind](x) if on else x, p=0.3))
    for number in range(when):
        loop.step(numbers(number, 12, 3, 4))

    def step(x: Tensor, y: Tensor) -> None:
        nonlocal on
        on = True
        F.cross_entropy(loop.model(x), y).backward()
        on = False
        loop.optimizer.step()

    for x, y in loop.engine.loader(TensorDataset(numbers(9, 12, 3, 4), torch.arange(12) % 3)):
        with pytest.raises(RuntimeError, match=REFUSED):
            step(x, y)
    assert loop.engine.steps_taken == when


@pytest.mark.parametrize("share", [0.003, 0.02])
@pytest.mark.parametrize("coarse", ["data", "loss"])
def test_a_model_that_is_finer_than_its_loop_is_looked_at_as_closely_as_it_is_fine(coarse, share):
    """In the second batch, where few are not looked at in forward: float16 has three digits."""
    on = False
    model = Switched(lambda x: x + on * share * (x - x.detach()).mean(0, keepdim=True))
    loop = Loop(model)
    low = torch.autocast("cpu", dtype=torch.bfloat16, enabled=coarse == "loss")

    def step(seed: int) -> None:
        data = TensorDataset(numbers(seed, 12, 4).half(), torch.arange(12) % 3)
        for x, y in loop.engine.loader(data):
            outputs = model(x.float())
            with low:
                loss = F.cross_entropy(outputs, y)
            loss.backward()
            loop.optimizer.step()

    step(1)
    on = True
    with pytest.raises(RuntimeError, match=REFUSED):
        step(2)
    assert loop.engine.steps_taken == 1


class InHalf(Switched):
    """Numbers of bfloat16 that a layer of float32 takes under autocast alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16())


def test_a_model_under_autocast_is_looked_at_under_autocast_after_it_has_ended():
    loop = Loop(InHalf(lambda x: x, p=0.3))
    for number in range(3):
        data = TensorDataset(numbers(number, 12, 4).float(), torch.arange(12) % 3)
        for x, y in loop.engine.loader(data):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(loop.model(x), y)
            loss.backward()
            for look in loop.engine._gathering.current().model_looks:
                look(Due.CLOSELY, None)  # as in doubt, at the step
            loop.optimizer.step()
    assert loop.engine.steps_taken == 3


def switching(values: Tensor, whole: int) -> Tensor:
    """A ReLU of what is all but 0: rounding opens it in the ``whole`` batch, and shuts it in parts.

    A billionth is nothing to float32, and a lot to float64. The loop is noted, not its Python code,
    so that size and rounding are found by operations.
    """
    one = torch.ones_like(values.detach())
    rounding = torch.nextafter(one, 2 * one) - one
    is_whole = one.select(-1, 0).sum() == whole
    return torch.relu(values - values.detach() + 1e-9 + torch.where(is_whole, rounding, -rounding))


class Switching(nn.Module):
    """Of ``[B, 4]``, with such a switch where it is asked for, after ``change`` has had a look.

    ``beside``: what of its own, in the dtype that it has, the model computes with.
    """

    def __init__(self, switches: bool, change, p: float, beside: str = "") -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.dropout, self.switches, self.change = nn.Dropout(p), switches, change
        self.beside, self.frozen = beside, nn.Linear(5, 5).requires_grad_(False)
        self.register_buffer("turn", torch.eye(5).roll(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.change(self.first(x))
        switched = switching(hidden, 12) if self.switches else hidden
        if self.beside == "a buffer":
            hidden = hidden @ self.turn
        if self.beside == "frozen weights":
            hidden = self.frozen(hidden)
        if self.beside == "a mask":
            mask = torch.zeros(1, 1, dtype=self.turn.dtype)
            heads = hidden[:, None, None]
            hidden = F.scaled_dot_product_attention(heads, heads, heads, mask)[:, 0, 0]
        if self.beside == "a step of the data":
            hidden = hidden * (1 + (switching(x, 12) > 0).to(hidden.dtype)[:, :1])
        return self.second(self.dropout(hidden.tanh()) + switched)


def take_switching(model: nn.Module, dtype: torch.dtype, change, *, in_loss: bool) -> None:
    loop = Loop(model.to(dtype))
    data = TensorDataset(numbers(3, 12, 4).to(dtype), torch.arange(12) % 3)
    for x, y in loop.engine.loader(data):
        outputs = change(model(x))
        terms = F.cross_entropy(outputs, y, reduction="none")
        if in_loss:
            terms = terms + switching(2 * outputs, 12).sum(1)
        terms.mean().backward()
        loop.optimizer.step()
    assert loop.engine.steps_taken == 1


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("where", ["model", "loss", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_switch_that_rounding_turns_is_no_mixing(dtype, where, p):
    """A wide network has one in a batch of thirty, which was refused as a loss that mixes."""
    model = Switching(where != "loss", torch.clone, p)
    take_switching(model, dtype, torch.clone, in_loss=where != "model")


@pytest.mark.parametrize("beside", ["a buffer", "frozen weights", "a mask", "a step of the data"])
@pytest.mark.parametrize("way", ["engine", "engine, with dropout", "batched"])
def test_a_model_with_numbers_of_its_own_is_tried_in_float64_too(way, beside):
    """Float32 beside float64: of a transformer with a mask, one batch in twenty was refused."""
    model = Switching(True, torch.clone, 0.3 if "dropout" in way else 0.0, beside)
    if way != "batched":
        take_switching(model, torch.float32, torch.clone, in_loss=False)
        return

    def losses(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return each_told_apart(torch.func.functional_call(model, params, (x,)))

    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    x = numbers(3, 12, 4).float()
    grads, _ = dp.factored_grad(dp.batched(losses))(params, x)
    expected = torch.func.grad(lambda params: losses(params, x).sum())(params)
    for name, grad in expected.items():
        torch.testing.assert_close(grads[name].weighted_sum(torch.ones(12)), grad)


def in_single_precision(outputs: Tensor) -> Tensor:
    """The same numbers, put into a tensor that has float32 whatever the outputs have."""
    return torch.zeros(outputs.shape).index_add_(0, torch.arange(len(outputs)), outputs)


def test_a_loop_that_cannot_run_in_float64_is_told_so_where_that_would_decide():
    """It was told that its loss mixes samples, which is not so."""
    model = Switching(True, in_single_precision, 0.0)
    with pytest.raises(RuntimeError, match=r"does not run in float64, which would tell \(Runtime"):
        take_switching(model, torch.float32, torch.clone, in_loss=False)


class RoundingByTape(nn.Module):
    """Of ``[B, 4]``, with a switch that is open in what runs under a tape: kernels may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        is_taped = any(isinstance(mode, Tape) for mode in _get_current_function_mode_stack())
        rounding = torch.finfo(hidden.dtype).eps * (1 if is_taped else -1)
        return self.second(hidden.tanh() + torch.relu(hidden - hidden.detach() + 1e-9 + rounding))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_that_rounds_otherwise_without_a_tape_has_not_changed(dtype):
    take_switching(RoundingByTape(), dtype, torch.clone, in_loss=False)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("where", ["model", "loss"])
@pytest.mark.parametrize("kind", sorted(MIXING.keys() - {"when not alone"}))
def test_samples_that_are_mixed_beside_such_a_switch_are_refused(kind, where, p):
    """In float64 they are mixed still."""
    change = {where: MIXING[kind]}
    model = Switching(where == "model", change.get("model", torch.clone), p)
    with pytest.raises(RuntimeError, match=REFUSED):
        take_switching(
            model, torch.float32, change.get("loss", torch.clone), in_loss=where == "loss"
        )
