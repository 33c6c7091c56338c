"""L7 in doubt: what decides where parts of a batch disagree, whether samples mix or numbers round.

Float64 alone would not do: it hides what mixes by underflow, by overflow or by NaN. So it is asked
beside runs in the same shape and dtype, in which other samples are replaced.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

import dpfunc as dp
from tests.laws.losses import each_told_apart
from tests.laws.test_l7e_looks import REFUSED, Loop, numbers, switching


class Pooling(nn.Module):
    """Attention over positions ``[B, T, 4]``, with one maximum of all samples "for stability"."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.score, self.value, self.out = nn.Linear(4, 1), nn.Linear(4, 5), nn.Linear(5, 3)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x).squeeze(-1)
        top = score.max() if self.dim is None else score.amax(self.dim, keepdim=True)
        share = (score - top).exp()
        share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
        return self.out((share[..., None] * self.value(x).tanh()).sum(1))


class Segments(nn.Module):
    """Sums over positions as differences of one running sum, which a large sample spoils."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        running = self.first(x).square().flatten(0, 1).cumsum(0)
        ends = torch.cat([running.new_zeros(1, 5), running])[:: x.shape[1]]
        return self.second((ends[1:] - ends[:-1]).sqrt().tanh())


class Centred(nn.Module):
    """Around the mean of the batch, which it assigns to a buffer's data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("centre", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.mean(1))
        self.centre.data = hidden.detach().mean(0)
        return self.second((hidden - self.centre).tanh())


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.mean(1)).tanh())


class Padded(nn.Module):
    """A causal model of ``[B, T]`` words; positions that see nothing are NaN in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.query, self.keys, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        x, length = self.words(words), words.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool).tril() & mask[:, None].bool()
        bias = torch.zeros(seen.shape, dtype=x.dtype).masked_fill(~seen, torch.finfo(x.dtype).min)
        scores = self.query(x) @ self.keys(x).transpose(1, 2) / 8**0.5 + bias
        shares = F.softmax(scores, -1, dtype=torch.float32).to(x.dtype)
        return self.out(x + shares @ self.value(x))


def texts() -> TensorDataset:
    words = torch.arange(84).view(12, 7) % 11
    mask = (torch.arange(7) >= torch.arange(12)[:, None] % 5).long()
    return TensorDataset(words, mask, torch.where(mask.bool(), words, -100))


def large(size: float) -> Tensor:
    x = numbers(1, 12, 6, 4).float()
    x[3] *= size
    return x


def take(model: nn.Module, data: TensorDataset, loss) -> None:
    loop = Loop(model)
    for batch in loop.engine.loader(data):
        loss(model, *batch).backward()
        loop.optimizer.step()
    assert loop.engine.steps_taken == 1


def of_labels(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def of_both_orders(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return of_labels(model, x, y) + F.cross_entropy(model(x.flip(0)).flip(0), y)


def of_assigned(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    outputs = model(x)
    outputs.data = outputs.detach() - outputs.detach().mean(0)
    return F.cross_entropy(outputs, y)


MIXING = {
    "underflow": (lambda: Pooling(None), 300.0, of_labels),
    "rounding": (Segments, 1e4, of_labels),
    "a buffer's data": (Centred, 1.0, of_labels),
    "another order": (Plain, 1.0, of_both_orders),
    "the outputs' data": (Plain, 1.0, of_assigned),
}


@pytest.mark.parametrize("kind", MIXING)
def test_what_float64_would_hide_is_refused(kind):
    torch.manual_seed(0)
    model, size, loss = MIXING[kind]
    data = TensorDataset(large(size), torch.arange(12) % 3)
    with pytest.raises(RuntimeError, match=rf"{REFUSED}|\.data is assigned"):
        take(model(), data, loss)


@pytest.mark.parametrize("kind", ["underflow", "rounding"])
def test_what_float64_would_hide_is_refused_of_a_batched_loss(kind):
    torch.manual_seed(0)
    model, size, _ = MIXING[kind]
    model = model()
    loss = dp.batched(lambda p, x: each_told_apart(torch.func.functional_call(model, p, (x,))))
    with pytest.raises(RuntimeError, match=REFUSED):
        dp.factored_grad(loss)(dp.named_params(model), large(size))


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_a_maximum_of_each_sample_is_accepted(size):
    torch.manual_seed(0)
    take(Pooling(1), TensorDataset(large(size), torch.arange(12) % 3), of_labels)


def mean_of_all_words(model: nn.Module, words: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    outputs = model(words, mask)
    return F.cross_entropy(outputs[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def mean_of_own_words(model: nn.Module, words: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    outputs = model(words, mask)
    losses = F.cross_entropy(outputs[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return (losses.sum(1) / (labels[:, 1:] != -100).sum(1)).mean()


def test_a_mean_over_words_is_refused_where_float64_has_nothing_but_nan():
    with pytest.raises(RuntimeError, match=REFUSED):
        take(Padded(), texts(), mean_of_all_words)
    take(Padded(), texts(), mean_of_own_words)


class Remembering(Plain):
    """From the second batch on, a mean of the batches before is in the model, as a Python float."""

    remembered, steps = 0.0, 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.mean(1))
        outputs = self.second((hidden - self.remembered).tanh())
        if self.steps > 0:
            self.remembered = 0.9 * self.remembered + 0.1 * hidden.detach().mean().item()
        return outputs


def test_a_number_that_a_model_remembers_is_refused_when_it_moves():
    model = Remembering()
    loop, data = Loop(model), TensorDataset(large(1.0), torch.arange(12) % 3)

    def run() -> None:
        for _ in range(4):
            for x, y in loop.engine.loader(data):
                of_labels(model, x, y).backward()
                loop.optimizer.step()
                model.steps += 1

    with pytest.raises(RuntimeError, match="the same gradients again"):
        run()
    assert loop.engine.steps_taken == 1


class InDoubt(nn.Module):
    """Of ``[B, 4]``, with a switch that rounding turns, and ``feature``."""

    def __init__(self, feature: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.feature = feature
        self.register_buffer("turn", torch.eye(5).roll(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        switched = switching(hidden, 12)
        if self.feature == "a buffer in a checkpoint":
            hidden = checkpoint(lambda h: (h @ self.turn).tanh(), hidden, use_reentrant=False)
        if self.feature == "writes":
            written = torch.zeros(len(x), 5, dtype=hidden.dtype)
            written[:, 0], written[:, 1:] = hidden[:, 0], hidden[:, 1:]
            hidden = written
        return self.second(hidden.tanh() + switched)


@pytest.mark.parametrize("feature", ["a buffer in a checkpoint", "writes"])
def test_an_honest_loop_in_doubt_is_accepted(feature):
    data = TensorDataset(numbers(3, 12, 4).float(), torch.arange(12) % 3)
    take(InDoubt(feature), data, of_labels)


def test_a_loop_that_was_not_written_for_float64_is_refused_with_its_own_words():
    class OfOneDtype(InDoubt):
        def forward(self, x: Tensor) -> Tensor:
            outputs = super().forward(x)
            assert outputs.dtype == torch.float32
            return outputs

    data = TensorDataset(numbers(3, 12, 4).float(), torch.arange(12) % 3)
    with pytest.raises(RuntimeError, match=r"not run in float64, which would tell \(Assertion"):
        take(OfOneDtype(""), data, of_labels)


def test_what_depends_on_the_number_of_samples_is_refused_in_doubt():
    """It stays where others are replaced: the parts of the batch show it, in float64."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        terms = F.cross_entropy(model(x), y, reduction="none")
        return (terms * torch.ones_like(terms.detach()).sum()).mean()

    data = TensorDataset(numbers(3, 12, 4).float(), torch.arange(12) % 3)
    with pytest.raises(RuntimeError, match=REFUSED):
        take(InDoubt(""), data, loss)
