"""A dataset whose items are parts of Poisson batches, for trainers that build their own loader."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import Dataset

from dpfunc.engine.parts import Parts


class Samples(NamedTuple):
    """The samples of one part of a Poisson batch: an item of `StepDataset`."""

    samples: list[Any]


class StepDataset(Dataset[Samples]):
    """Item k holds the samples of part ``k % count`` of step ``first_step + k // count``.

    To be read in order. ``steps``: of an epoch. ``first_step``: where the epoch begins. With
    several ``processes`` the trainer gives item k to process ``k % processes``: each part is then
    one item for each of them, which holds its own samples.
    """

    def __init__(self, dataset: Any, parts: Parts, *, steps: int, processes: int = 1) -> None:
        self.first_step = 0
        self._dataset = dataset
        self._parts = parts
        self._steps = steps
        self._processes = processes

    def __len__(self) -> int:
        return self._steps * self._parts.count * self._processes

    def __getitem__(self, item: int) -> Samples:
        if not 0 <= item < len(self):
            raise IndexError(item)
        of_all, process = divmod(item, self._processes)
        own = 0 if self._parts.own is None else self._parts.own.start
        if process != own:
            raise IndexError(f"item {item} is that of process {process}, and this is process {own}")
        ahead, position = divmod(of_all, self._parts.count)
        indices = list(self._parts.of(self.first_step + ahead)[position].indices)
        if hasattr(self._dataset, "__getitems__"):
            return Samples(list(self._dataset.__getitems__(indices)))
        return Samples([self._dataset[index] for index in indices])


class StepCollator:
    """Hands the samples of an item of `StepDataset`, or a list of samples, to ``collate``.

    ``columns``: what is kept of samples that are dicts; None for everything.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.columns: frozenset[str] | None = None
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        if not isinstance(items[0], Samples):
            return self._collate(items)
        return self._collate([self._kept(sample) for part in items for sample in part.samples])

    def _kept(self, sample: Any) -> Any:
        if self.columns is None or not isinstance(sample, dict):
            return sample
        return {name: value for name, value in sample.items() if name in self.columns}


def columns_of(module: nn.Module, labels: list[str]) -> frozenset[str]:
    """What the forward of ``module`` takes, and the labels of a sample under their usual names."""
    return frozenset(inspect.signature(module.forward).parameters) | {
        *("label", "label_ids", *labels)
    }
