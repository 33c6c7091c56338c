"""Any sampler as a batch sampler of `torch.utils.data`."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler as TorchSampler

from dpfunc.checks import is_count, require
from dpfunc.random.keys import Key, require_key
from dpfunc.sampling.scheme import Sampler


@dataclass(frozen=True, eq=False)
class Batches(TorchSampler[list[int]]):
    """The batches of steps ``start`` to ``start + steps - 1``: ``DataLoader(batch_sampler=...)``.

    A list of indices for each step, as `Sampler.batch` draws them. A batch may be empty: its step
    still releases noise, so the loader needs a ``collate_fn`` that takes an empty list. A pure
    function of the key: iterated twice it gives the same batches, so go on with another ``start``.

    TypeError for what is not a sampler, or no key.

    >>> import dpfunc as dp
    >>> batches = Batches(dp.sampling.Shuffled(size=6, batch_size=3), key=dp.key(0), steps=4)
    >>> [len(batch) for batch in batches], len(batches)
    ([3, 3, 3, 3], 4)
    """

    sampler: Sampler
    key: Key
    steps: int
    start: int = 0

    def __post_init__(self) -> None:
        require(
            callable(getattr(self.sampler, "batch", None)),
            "Batches",
            "a sampler of dpfunc.sampling",
            type(self.sampler).__name__,
            "pass dpfunc.sampling.CyclicPoisson(...), say",
            error=TypeError,
        )
        require_key("Batches", self.key)
        for name, value in (("steps", self.steps), ("start", self.start)):
            require(is_count(value), "Batches", f"an int {name} >= 0", value, "count steps from 0")

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.start + self.steps):
            indices, _ = self.sampler.batch(self.key, step)
            yield indices.tolist()

    def __len__(self) -> int:
        return self.steps
