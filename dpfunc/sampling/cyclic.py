"""Cyclic Poisson sampling: groups take turns, and a coin decides in the turn of its group."""

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from dpfunc.accounting import Event, Gaussian, OneRecord, dp_sgd
from dpfunc.accounting import Poisson as PoissonEvent
from dpfunc.checks import require
from dpfunc.random.discrete import bernoulli
from dpfunc.random.keys import Key, fold_in
from dpfunc.random.subsets import uniform_index
from dpfunc.sampling.scheme import Device, padded, require_sampler, require_step, require_steps
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.records import Strategy


@dataclass(frozen=True)
class CyclicPoisson:
    """A record may take part every ``cycle`` steps, and does so with probability ``rate``.

    Each record draws its group, 0 to ``cycle - 1``, for itself, once and in secret; in step t the
    records of group ``t mod cycle`` are in with probability ``rate``. The expected batch has ``rate
    * size / cycle`` records: for the batches of `Poisson` at rate q take ``rate = cycle * q``.

    Guarantee: with independent noise, or a strategy of at most ``cycle`` bands, a run of n steps is
    as private as ``ceil(n / cycle)`` steps of DP-SGD at ``rate``, under adding or removing a record
    (Choquette-Choo et al. 2023, arXiv:2306.08153, theorem 4; docs/correlated.md derives it). More
    bands than that are refused. It holds for one record: `accounting.Group` of it is refused, as
    the records of a group may be in several groups of the cycle, whose blocks overlap.

    >>> CyclicPoisson(size=1000, rate=0.25, cycle=4).event(2.0, steps=10)
    OneRecord(Poisson(0.25, Gaussian(2.0))) * 3
    """

    _: KW_ONLY
    size: int
    rate: float
    cycle: int

    def __post_init__(self) -> None:
        require_sampler("CyclicPoisson", size=self.size, rate=self.rate, cycle=self.cycle)

    @property
    def expected_batch_size(self) -> float:
        return self.size * self.rate / self.cycle

    def group_of(self, key: Key) -> Tensor:
        """The group of each record, int64 ``[size]``: a record more changes no other's."""
        return uniform_index(fold_in(key, "group"), self.size, below=self.cycle)

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`."""
        require_step("CyclicPoisson", step)
        members = self.group_of(key) == step % self.cycle
        coins = fold_in(key, "cyclic sampling", step)
        drawn = members & bernoulli(coins, (self.size,), probability=self.rate)
        return padded("CyclicPoisson", drawn.nonzero()[:, 0], pad_to, device)

    def participation(self, steps: int) -> Participation:
        return Participation(max(1, -(-steps // self.cycle)), self.cycle)

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        """``Poisson(rate, Gaussian(noise_multiplier)) * ceil(steps / cycle)``, of one record."""
        if require_steps("CyclicPoisson", steps, strategy):
            bands = None if strategy is None else strategy.bands
            require(
                bands is not None and bands <= self.cycle,
                "CyclicPoisson",
                f"a strategy of at most {self.cycle} bands, the cycle",
                "one that fills its columns" if bands is None else f"one of {bands}",
                "use dpfunc.correlated.banded with bands <= cycle; for other strategies "
                "dpfunc.sampling.Shuffled or BallsInBins, without amplification",
            )
        if self.cycle == 1:
            return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=self.rate, steps=steps)
        block = OneRecord(PoissonEvent(self.rate, Gaussian(noise_multiplier)))
        return block * -(-steps // self.cycle)
