"""A sampled batch in a fixed number of parts, for loops that step after so many backward passes."""

from dataclasses import dataclass, field

from dpfunc.checks import is_count, require
from dpfunc.engine.batches import Drawn, drawn, microbatches
from dpfunc.random.keys import Key
from dpfunc.sampling.scheme import Sampler

_STEPS_AHEAD = 4  # of a loader; its draws are kept so that they are made once


@dataclass(frozen=True)
class Parts:
    """The batches of a run, each in ``count`` parts whose sizes differ by one at most.

    Like `drawn`, it is a function of the key and the step alone, so that several processes come to
    the same parts.

    ``own``: the shards of this process, where a batch is cut into shards: a part for each of them.
    """

    key: Key
    sampler: Sampler
    count: int
    own: range | None = None
    _kept: dict[int, list[Drawn]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(
            is_count(self.count) and self.count >= 1,
            "PrivacyEngine.parts",
            "at least one part",
            self.count,
            "pass the number of backward passes between two steps of the optimizer",
        )
        require(
            self.own is None or self.count == len(self.own),
            "PrivacyEngine.parts",
            f"a part for each of the {len(self.own or ())} shards of this process",
            self.count,
            "accumulate gradients over shards / processes parts",
        )

    def of(self, step: int) -> list[Drawn]:
        """The parts of the batch of ``step``. One without samples has one that only fills up."""
        if step not in self._kept:
            if len(self._kept) == _STEPS_AHEAD:
                del self._kept[min(self._kept)]
            self._kept[step] = self._made(step)
        return self._kept[step]

    def _made(self, step: int) -> list[Drawn]:
        if self.own is not None:
            return drawn(self.key, step, sampler=self.sampler, microbatch_size=None, own=self.own)
        indices, _ = self.sampler.batch(self.key, step)
        return microbatches(step, indices.tensor_split(self.count))
