"""Training with DP: a linear probe on frozen features, and fine-tuning that goes on from it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dpfunc as dp
from benchmarks.wordnet.encoder import Classifier, Examples
from dpfunc import accounting
from dpfunc.accounting import Event

MICROBATCH = 64


@dataclass(frozen=True)
class Phase:
    """One or more steps of DP-Adam with a learning rate that falls linearly to zero.

    ``head_rate`` and ``body_rate``: the learning rates of the head and of the rest.
    """

    steps: int
    expected_batch_size: int
    max_norm: float
    head_rate: float
    body_rate: float = 0.0

    def event(self, noise_multiplier: float, size: int) -> Event:
        rate = self.expected_batch_size / size
        return accounting.dp_sgd(
            noise_multiplier=noise_multiplier, sample_rate=rate, steps=self.steps
        )


def least_noise(
    phase: Phase, size: int, before: Event, *, target_epsilon: float, delta: float
) -> float:
    """The noise multiplier with which ``phase`` after ``before`` meets the target, to 0.5 %.

    It starts from what ``phase`` alone needs, and that is the answer where nothing came before.
    """
    rate = phase.expected_batch_size / size
    budget = {"target_epsilon": target_epsilon, "delta": delta}
    alone = accounting.noise_multiplier(**budget, sample_rate=rate, steps=phase.steps)

    def meets(noise_multiplier: float) -> bool:
        event = before + phase.event(noise_multiplier, size)
        return accounting.epsilon(event, delta=delta) <= target_epsilon

    low = high = alone
    while not meets(high):
        low, high = high, 1.1 * high
    while high > 1.005 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def train_head(
    head: nn.Linear, features: Tensor, labels: Tensor, phase: Phase, noise_multiplier: float
) -> Event:
    """Train ``head`` in place on frozen ``features``, and return what that released."""

    def loss_fn(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = torch.func.functional_call(head, params, (x[None],))
        return F.cross_entropy(logits, y[None])

    optimizer = torch.optim.Adam(head.parameters(), lr=phase.head_rate)
    steps = _steps(head, loss_fn, (features, labels), optimizer, phase, noise_multiplier, None)
    return list(steps)[-1]


def fine_tune(
    model: Classifier,
    examples: Examples,
    phase: Phase,
    noise_multiplier: float,
    report: Callable[[str], None] = print,
) -> Event:
    """Train what is trainable of ``model`` in place, and return what that released."""

    @dp.batched  # the encoder's code looks at the mask
    def losses(params: dict[str, Tensor], ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, params, (ids, mask))
        return F.cross_entropy(logits, labels, reduction="none")

    body = [param for param in model.encoder.parameters() if param.requires_grad]
    groups = [
        {"params": body, "lr": phase.body_rate},
        {"params": list(model.head.parameters()), "lr": phase.head_rate},
    ]
    optimizer = torch.optim.Adam(groups)
    start = time.perf_counter()
    events = []
    for event in _steps(
        model, losses, tuple(examples), optimizer, phase, noise_multiplier, MICROBATCH
    ):
        events.append(event)
        report(f"step {len(events)} of {phase.steps}, {time.perf_counter() - start:.0f} s")
    return events[-1]


def _steps(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    data: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    noise_multiplier: float,
    microbatch_size: int | None,
) -> Iterator[Event]:
    """One DP step at a time; what all steps so far released."""
    key = dp.key()
    size = len(data[0])
    rate = phase.expected_batch_size / size
    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(phase.max_norm),
        noise=dp.GaussianNoise(noise_multiplier, key=key),
        expected_batch_size=phase.expected_batch_size,
        microbatch_size=microbatch_size,
    )
    params = dp.named_params(model)
    state = private.init(params)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=phase.steps)
    for step in range(phase.steps):
        indices, mask = dp.sampling.poisson(key, step, size=size, rate=rate)
        indices, mask = filled_up(indices, mask, microbatch_size or 1)
        batch = tuple(part[indices] for part in data)
        grads, state, _ = private.update(params, batch, state, mask)
        dp.set_grads_(model, grads)
        optimizer.step()
        fall.step()
        yield private.event(state, sample_rate=rate)


def filled_up(indices: Tensor, mask: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Masked samples at the end, so that all microbatches have one shape and one verification."""
    missing = -len(indices) % multiple
    return F.pad(indices, (0, missing)), F.pad(mask, (0, missing))


@torch.no_grad()
def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
