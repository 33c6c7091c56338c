"""Samplers that pass over the data: every record in a fixed number of steps of each epoch."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from dpfunc.accounting import Event, Gaussian, RandomAllocation
from dpfunc.accounting import Shuffled as ShuffledEvent
from dpfunc.checks import require
from dpfunc.correlated.unamplified import unamplified
from dpfunc.random.keys import Key, fold_in
from dpfunc.random.subsets import permutation, uniform_index
from dpfunc.sampling.scheme import Device, padded, require_sampler, require_step, require_steps
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.records import Strategy


@dataclass(frozen=True)
class BallsInBins:
    """Each record draws one of ``bins`` bins, once for the whole run; step t reads bin t mod bins.

    Guarantee, under adding or removing a record, with k = ceil(steps / bins) epochs: with
    independent noise ``RandomAllocation(1, bins, Gaussian(s / sqrt(k)))``; with b bands
    ``RandomAllocation(1, bins / p, Gaussian(s / sqrt(k)))``, p the smallest divisor of ``bins``
    that is at least b; without bands, or more than ``bins`` of them, no amplification
    (docs/correlated.md has the proofs; sampling by balls in bins: arXiv:2412.16802). The same bins
    in every epoch are not k independent allocations.

    >>> BallsInBins(size=1000, bins=8).event(2.0, steps=32)
    RandomAllocation(participations=1, steps=8, event=Gaussian(0.9999999999999991))
    """

    _: KW_ONLY
    size: int
    bins: int

    def __post_init__(self) -> None:
        require_sampler("BallsInBins", size=self.size, bins=self.bins)

    @property
    def expected_batch_size(self) -> float:
        return self.size / self.bins

    def bin_of(self, key: Key) -> Tensor:
        """The bin of each record, int64 ``[size]``: a record more changes no other's."""
        return uniform_index(fold_in(key, "bin"), self.size, below=self.bins)

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`."""
        require_step("BallsInBins", step)
        drawn = (self.bin_of(key) == step % self.bins).nonzero()[:, 0]
        return padded("BallsInBins", drawn, pad_to, device)

    def participation(self, steps: int) -> Participation:
        times = max(1, -(-steps // self.bins))
        return Participation(times, self.bins, evenly_spaced=True)

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """As the class says."""
        blocks = 1
        if require_steps("BallsInBins", steps, strategy) and strategy is not None:
            bands = strategy.bands
            if bands is None or bands > self.bins:
                promised = self.participation(strategy.steps)
                return unamplified(noise_multiplier, strategy, promised)
            blocks = min(p for p in range(bands, self.bins + 1) if self.bins % p == 0)
        epochs = max(1, -(-steps // self.bins))
        release = Gaussian(noise_multiplier / math.sqrt(epochs) * (1 - 2.0**-50))
        if steps == 0:
            return release * 0
        return RandomAllocation(1, self.bins // blocks, release)


@dataclass(frozen=True)
class Allocation:
    """Each record draws ``participations`` of the ``steps`` steps of an epoch, afresh every epoch.

    A uniform subset for each record by itself. Guarantee, under adding or removing a record: with
    independent noise ``RandomAllocation(participations, steps, Gaussian(s))`` for each epoch begun;
    with a strategy no amplification: the last step of an epoch and the first of the next may be of
    one record, so that nothing keeps its steps apart.

    >>> Allocation(size=1000, steps=8).event(2.0, steps=20)
    RandomAllocation(participations=1, steps=8, event=Gaussian(2.0)) * 3
    """

    _: KW_ONLY
    size: int
    steps: int
    participations: int = 1

    def __post_init__(self) -> None:
        require_sampler(
            "Allocation", size=self.size, steps=self.steps, participations=self.participations
        )
        require(
            self.participations <= self.steps,
            "Allocation",
            f"at most {self.steps} participations, the steps of an epoch",
            self.participations,
            "take fewer",
        )

    @property
    def expected_batch_size(self) -> float:
        return self.size * self.participations / self.steps

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`. Takes time in proportion to the place of the step in its epoch."""
        require_step("Allocation", step)
        epoch, last = divmod(step, self.steps)
        left = torch.full((self.size,), self.participations)
        drawn = left < 0
        for place in range(last + 1):  # in this step: as many as are left, of the steps left
            key_here = fold_in(key, "allocation", epoch, place)
            drawn = uniform_index(key_here, self.size, below=self.steps - place) < left
            left -= drawn.to(left.dtype)
        return padded("Allocation", drawn.nonzero()[:, 0], pad_to, device)

    def participation(self, steps: int) -> Participation:
        return Participation(max(1, self.participations * -(-steps // self.steps)), 1)

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """As the class says."""
        if require_steps("Allocation", steps, strategy) and strategy is not None:
            return unamplified(noise_multiplier, strategy, self.participation(strategy.steps))
        release = Gaussian(noise_multiplier)
        return RandomAllocation(self.participations, self.steps, release) * -(-steps // self.steps)


@dataclass(frozen=True)
class Shuffled:
    """The data in one random order, cut into batches of ``batch_size``, the same in every epoch.

    Guarantee, under zeroing out or replacing a record alone (one more would move the others between
    batches): no amplification. With independent noise ``Shuffled(Gaussian(s))`` for each epoch;
    with a strategy of sensitivity S one ``Shuffled(Gaussian(s * column_norm / S))`` for the whole
    run.

    >>> Shuffled(size=1000, batch_size=100).event(2.0, steps=20)
    Shuffled(Gaussian(2.0)) * 2
    """

    _: KW_ONLY
    size: int
    batch_size: int

    def __post_init__(self) -> None:
        require_sampler("Shuffled", size=self.size, batch_size=self.batch_size)

    @property
    def expected_batch_size(self) -> float:
        return float(self.batch_size)

    @property
    def steps(self) -> int:
        """Of an epoch; the last batch may be smaller."""
        return -(-self.size // self.batch_size)

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`; a ``pad_to`` of ``batch_size`` always suffices."""
        require_step("Shuffled", step)
        order = permutation(fold_in(key, "order"), self.size)
        start = step % self.steps * self.batch_size
        return padded("Shuffled", order[start : start + self.batch_size], pad_to, device)

    def participation(self, steps: int) -> Participation:
        return Participation(max(1, -(-steps // self.steps)), self.steps, evenly_spaced=True)

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """As the class says."""
        if require_steps("Shuffled", steps, strategy) and strategy is not None:
            whole = unamplified(noise_multiplier, strategy, self.participation(strategy.steps))
            return ShuffledEvent(whole)
        return ShuffledEvent(Gaussian(noise_multiplier)) * -(-steps // self.steps)
