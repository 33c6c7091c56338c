"""What every sampler answers, and what they share: padding, checks, refusals."""

from typing import NoReturn, Protocol

import torch
from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.checks import is_count, is_real, require
from dpfunc.random.keys import Key
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.records import Strategy, require_strategy

Device = torch.device | str


class Sampler(Protocol):
    """Who takes part in a step, how often that is, and what it means for privacy."""

    @property
    def size(self) -> int:
        """How many records there are."""
        ...

    @property
    def expected_batch_size(self) -> float:
        """The mean number of records in a step, a constant of the run."""
        ...

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """``indices`` (int64 ``[M]``, ascending) and ``mask`` (bool ``[M]``), as `poisson` has."""
        ...

    def participation(self, steps: int) -> Participation | None:
        """What is certain about the steps of one record; None where it may be in all of them."""
        ...

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """What ``steps`` steps release, for the accountant; ``noise_multiplier``: of one step."""
        ...


def require_steps(subject: str, steps: int, strategy: Strategy | None) -> bool:
    """Check them; whether the noise is correlated at all."""
    require(is_count(steps), subject, "an int steps >= 0", steps, "pass how many steps were taken")
    if strategy is None:
        return False
    require_strategy(subject, strategy)
    require(
        steps <= strategy.steps,
        subject,
        f"at most {strategy.steps} steps, those of the strategy",
        steps,
        "make the strategy for the whole run",
    )
    return strategy.bands != 1


def no_theorem(subject: str, remedy: str) -> NoReturn:
    """Of a pair of sampler and strategy whose privacy nobody has bounded well."""
    raise ValueError(
        f"{subject}: no theorem is known for this sampler with correlated noise; {remedy}."
    )


def require_sampler(subject: str, *, size: int, rate: float | None = None, **counts: int) -> None:
    """The numbers of a sampler: ValueError for one that is none of its kind."""
    for name, value in {"size": size, **counts}.items():
        require(
            is_count(value) and value >= 1, subject, f"an int {name} >= 1", value, "count from 1"
        )
    require(
        rate is None or (is_real(rate) and 0 <= rate <= 1),
        subject,
        "a probability 0 <= rate <= 1",
        rate,
        "pass the chance that a record takes part when it may",
    )


def require_step(subject: str, step: int) -> None:
    require(is_count(step), subject, "an int step >= 0", step, "count your steps from 0")


def padded(
    subject: str, indices: Tensor, pad_to: int | None, device: Device
) -> tuple[Tensor, Tensor]:
    """Ascending indices and their mask; filled up with index 0 and False."""
    indices, count = indices.sort().values, indices.shape[0]
    mask = torch.ones_like(indices, dtype=torch.bool)
    if pad_to is not None:
        require(
            is_count(pad_to) and count <= pad_to,
            subject,
            f"pad_to >= {count}, the records drawn at this step",
            pad_to,
            "pad to the largest batch that a run may meet: dropping some would void the guarantee",
        )
        indices = torch.nn.functional.pad(indices, (0, pad_to - count))
        mask = torch.nn.functional.pad(mask, (0, pad_to - count))
    return indices.to(device), mask.to(device)
