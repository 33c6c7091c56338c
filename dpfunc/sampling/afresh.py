"""Samplers that draw every step afresh: no promise about when a record takes part again."""

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from dpfunc.accounting import Event, Gaussian, WithoutReplacement, dp_sgd
from dpfunc.accounting import TruncatedPoisson as TruncatedEvent
from dpfunc.checks import require
from dpfunc.random.keys import Key, fold_in
from dpfunc.random.subsets import subset
from dpfunc.sampling.poisson import poisson
from dpfunc.sampling.scheme import (
    Device,
    no_theorem,
    padded,
    require_sampler,
    require_step,
    require_steps,
)
from dpfunc.strategies.records import Strategy

_USE = "use dpfunc.sampling.CyclicPoisson(size=, rate=, cycle=) with cycle >= bands"


@dataclass(frozen=True)
class Poisson:
    """Every record in every step independently with probability ``rate``: `poisson` as a record.

    Guarantee: ``event`` is that of DP-SGD, under any relation that the accountant knows.
    Correlated noise is refused: what is proven for it (arXiv:2310.15526) is loose.

    >>> Poisson(size=1000, rate=0.25).event(2.0, steps=10)
    Poisson(0.25, Gaussian(2.0)) * 10
    """

    _: KW_ONLY
    size: int
    rate: float

    def __post_init__(self) -> None:
        require_sampler("Poisson", size=self.size, rate=self.rate)

    @property
    def expected_batch_size(self) -> float:
        return self.size * self.rate

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """See `poisson`: the same records for the same key."""
        return poisson(key, step, size=self.size, rate=self.rate, pad_to=pad_to, device=device)

    def participation(self, steps: int) -> None:
        return None

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        _require_independent("Poisson", steps, strategy)
        return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=self.rate, steps=steps)


@dataclass(frozen=True)
class TruncatedPoisson:
    """`Poisson`, and of a batch larger than ``most`` a uniform subset of that size.

    Guarantee: that of ``accounting.TruncatedPoisson``, under zero-out and replacement alone: the
    size is public, and a record more would change who is cut.

    >>> TruncatedPoisson(size=1000, rate=0.1, most=200).expected_batch_size
    100.0
    """

    _: KW_ONLY
    size: int
    rate: float
    most: int

    def __post_init__(self) -> None:
        require_sampler("TruncatedPoisson", size=self.size, rate=self.rate, most=self.most)

    @property
    def expected_batch_size(self) -> float:
        return self.size * self.rate

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`; a ``pad_to`` of ``most`` always suffices."""
        indices, _ = poisson(key, step, size=self.size, rate=self.rate)
        if len(indices) > self.most:
            which = fold_in(key, "truncated", step)
            indices = indices[subset(which, len(indices), count=self.most)]
        return padded("TruncatedPoisson", indices, pad_to, device)

    def participation(self, steps: int) -> None:
        return None

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        _require_independent("TruncatedPoisson", steps, strategy)
        release = Gaussian(noise_multiplier)
        return TruncatedEvent(self.rate, self.most, self.size, release) * steps


@dataclass(frozen=True)
class FixedSize:
    """Exactly ``batch_size`` records in every step, a uniform subset, without replacement.

    Guarantee: that of ``accounting.WithoutReplacement``, under the relations that it knows.

    >>> FixedSize(size=1000, batch_size=50).event(2.0, steps=10)
    WithoutReplacement(batch_size=50, dataset_size=1000, event=Gaussian(2.0)) * 10
    """

    _: KW_ONLY
    size: int
    batch_size: int

    def __post_init__(self) -> None:
        require_sampler("FixedSize", size=self.size, batch_size=self.batch_size)
        require(
            self.batch_size <= self.size,
            "FixedSize",
            f"batch_size <= {self.size}, the size",
            self.batch_size,
            "take fewer records in a step",
        )

    @property
    def expected_batch_size(self) -> float:
        return float(self.batch_size)

    def batch(
        self, key: Key, step: int, *, pad_to: int | None = None, device: Device = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.batch`."""
        require_step("FixedSize", step)
        drawn = subset(fold_in(key, "fixed size", step), self.size, count=self.batch_size)
        return padded("FixedSize", drawn, pad_to, device)

    def participation(self, steps: int) -> None:
        return None

    def event(
        self, noise_multiplier: float, *, steps: int, strategy: Strategy | None = None
    ) -> Event:
        _require_independent("FixedSize", steps, strategy)
        return WithoutReplacement(self.batch_size, self.size, Gaussian(noise_multiplier)) * steps


def _require_independent(name: str, steps: int, strategy: Strategy | None) -> None:
    """ValueError for correlated noise: nothing is certain of when a record comes again."""
    if require_steps(name, steps, strategy):
        no_theorem(name, _USE)
