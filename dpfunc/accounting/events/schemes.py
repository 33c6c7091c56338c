"""Sampling schemes: which records a mechanism reads. The event must say what the code really does.

A batch that is not a Poisson sample must not be accounted as one: the differences in epsilon are
large, in either direction.
"""

from dataclasses import dataclass

from dpfunc.accounting.events.algebra import Event, require_event
from dpfunc.accounting.events.mechanisms import Mechanism, require_mechanism
from dpfunc.checks import is_count, is_real, require


@dataclass(frozen=True, repr=False)
class Poisson(Event):
    """``event`` on a random subset that holds each record independently with ``sample_rate``.

    Shuffled or fixed-size batches are not Poisson samples: do not account them as such.
    """

    sample_rate: float
    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_rate("Poisson", self.sample_rate)
        require_mechanism("Poisson", self.event)


@dataclass(frozen=True, repr=False)
class TruncatedPoisson(Event):
    """`Poisson` with a cap: of a sample larger than ``max_batch_size``, a uniform subset of it.

    ``dataset_size`` counts the record in question and is public. A cap some six standard deviations
    above the mean batch is nearly free; one at the mean is ruinous.
    """

    sample_rate: float
    max_batch_size: int
    dataset_size: int
    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_rate("TruncatedPoisson", self.sample_rate)
        _require_size("TruncatedPoisson", "max_batch_size", self.max_batch_size)
        _require_size("TruncatedPoisson", "dataset_size", self.dataset_size)
        require_mechanism("TruncatedPoisson", self.event)


@dataclass(frozen=True, repr=False)
class WithoutReplacement(Event):
    """``event`` on a uniform subset of exactly ``batch_size`` of the ``dataset_size`` records.

    Every step draws a fresh subset; the batches of one pass over shuffled data are `Shuffled`.
    """

    batch_size: int
    dataset_size: int
    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_size("WithoutReplacement", "dataset_size", self.dataset_size)
        require(
            is_count(self.batch_size) and self.batch_size <= self.dataset_size,
            "WithoutReplacement",
            "an int 0 <= batch_size <= dataset_size",
            self.batch_size,
            "pass how many records a step reads",
        )
        require_mechanism("WithoutReplacement", self.event)


@dataclass(frozen=True, repr=False)
class WithReplacement(Event):
    """``event`` on ``batch_size`` independent uniform draws from ``dataset_size`` records.

    A record that is drawn twice counts twice.
    """

    batch_size: int
    dataset_size: int
    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        _require_size("WithReplacement", "dataset_size", self.dataset_size)
        require(
            is_count(self.batch_size),
            "WithReplacement",
            "an int batch_size >= 0",
            self.batch_size,
            "pass how many records a step draws",
        )
        require_mechanism("WithReplacement", self.event)


@dataclass(frozen=True, repr=False)
class RandomAllocation(Event):
    """``steps`` releases of ``event``; each record is read in ``participations`` of them.

    Which ones is a uniform subset of the steps, drawn for each record by itself (also known as
    balls-and-bins for one participation). The event is the whole pass of ``steps`` steps.
    """

    participations: int
    steps: int
    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_count(self.steps) and self.steps >= 1,
            "RandomAllocation",
            "an int steps >= 1",
            self.steps,
            "pass the number of steps of one pass over the data",
        )
        require(
            is_count(self.participations) and self.participations <= self.steps,
            "RandomAllocation",
            "an int 0 <= participations <= steps",
            self.participations,
            "pass in how many of the steps a record takes part",
        )
        require_mechanism("RandomAllocation", self.event)


@dataclass(frozen=True, repr=False)
class Shuffled(Event):
    """One pass of ``event`` over disjoint batches of shuffled data: every record is read once.

    Accounted without any amplification, as one release: no theorem gives DP-SGD a useful one, and
    Poisson numbers are wrong for it (Chua et al. 2024, arXiv:2403.17673). Adding a record shifts
    the others between batches, so the question has to be asked about a record that is replaced or
    zeroed out.
    """

    event: Mechanism

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require_mechanism("Shuffled", self.event)


@dataclass(frozen=True, repr=False)
class Group(Event):
    """``event``, asked about ``records`` records that come and go together: a person, a household.

    >>> from dpfunc.accounting import dp_sgd
    >>> Group(4, dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=1000))
    Group(4, Poisson(0.01, Gaussian(4.0)) * 1000)
    """

    records: int
    event: Event

    def __post_init__(self) -> None:
        self.write_numbers_plainly()
        require(
            is_count(self.records) and self.records >= 1,
            "Group",
            "an int records >= 1",
            self.records,
            "pass how many records one person may have",
        )
        require_event("Group", self.event)


@dataclass(frozen=True, repr=False)
class OneRecord(Event):
    """``event``, as far as a single record is concerned: what is proven for no more than one.

    The event of a sampler whose records take turns, such as `sampling.CyclicPoisson`: two of them
    are not in its steps together, as two records of a `Poisson` step are. Every question is
    answered as for ``event``, but in a `Group` it raises ValueError.

    >>> from dpfunc.accounting import Gaussian
    >>> OneRecord(Poisson(0.25, Gaussian(2.0))) * 3
    OneRecord(Poisson(0.25, Gaussian(2.0))) * 3
    """

    event: Event

    def __post_init__(self) -> None:
        require_event("OneRecord", self.event)


Scheme = (
    Poisson
    | TruncatedPoisson
    | WithoutReplacement
    | WithReplacement
    | RandomAllocation
    | Shuffled
    | Group
)


def _require_rate(subject: str, sample_rate: float) -> None:
    require(
        is_real(sample_rate) and 0 <= sample_rate <= 1,
        subject,
        "a probability 0 <= sample_rate <= 1",
        sample_rate,
        "pass expected_batch_size / len(dataset)",
    )


def _require_size(subject: str, name: str, value: int) -> None:
    require(
        is_count(value) and value >= 1,
        subject,
        f"an int {name} >= 1",
        value,
        "pass a number of records",
    )
