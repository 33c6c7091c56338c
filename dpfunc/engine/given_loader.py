"""A DataLoader that the user has: what of it Poisson sampling can take over, and what it cannot."""

from typing import Any

from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from dpfunc.checks import require
from dpfunc.engine.budget import poisson_of
from dpfunc.sampling.scheme import Sampler

_OPTIONS = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers"),
)


def sampler_of(
    data: DataLoader[Any] | None,
    sample_size: int | None,
    batch_size: float | None,
    sampler: Sampler | None,
) -> tuple[Sampler, float]:
    """Who takes part in a step, and the size of a batch: as given, or Poisson samples of sizes."""
    if sampler is None:
        sample_size, batch_size = _sizes(data, sample_size, batch_size)
        return poisson_of(sample_size, batch_size), batch_size
    named = [*_named(sample_size, batch_size), ("data", data)]
    given = [name for name, value in named if value is not None]
    require(
        all(callable(getattr(sampler, name, None)) for name in ("batch", "event")),
        "PrivacyEngine",
        "a sampler of dpfunc.sampling",
        type(sampler).__name__,
        "pass sampler=dpfunc.sampling.CyclicPoisson(...), say",
        error=TypeError,
    )
    require(
        not given,
        "PrivacyEngine",
        "neither data nor sizes beside a sampler, which has both",
        given,
        "leave them out",
        error=TypeError,
    )
    return sampler, sampler.expected_batch_size


def _sizes(
    data: DataLoader[Any] | None, sample_size: int | None, batch_size: float | None
) -> tuple[int, float]:
    """Sample size and batch size of a run: as they are given, or those of a DataLoader."""
    if data is None:
        missing = [n for n, v in _named(sample_size, batch_size) if v is None]
        require(
            not missing,
            "PrivacyEngine",
            "sample_size and batch_size, or data, a DataLoader that has both",
            f"no {' and no '.join(missing)}",
            "pass sample_size=len(dataset) and the batch_size that you want on average",
            error=TypeError,
        )
        return sample_size, batch_size  # type: ignore[return-value]  # neither is None here
    given = [name for name, value in _named(sample_size, batch_size) if value is not None]
    require(
        isinstance(data, DataLoader) and not given,
        "PrivacyEngine",
        "a DataLoader as data, and neither sample_size nor batch_size beside it",
        (type(data).__name__, *given),
        "pass data=loader, or sample_size and batch_size",
        error=TypeError,
    )
    require(
        data.batch_size is not None and not isinstance(data.dataset, IterableDataset),
        "PrivacyEngine",
        "a DataLoader with a batch_size, of a dataset that is read by index",
        f"batch_size={data.batch_size} of {type(data.dataset).__name__}",
        "pass sample_size and batch_size, and the dataset to engine.loader(dataset)",
    )
    taken_apart(data, float(data.batch_size or 0), {})
    return len(data.dataset), data.batch_size  # type: ignore[arg-type,return-value]  # as required


def _named(sample_size: Any, batch_size: Any) -> list[tuple[str, Any]]:
    return [("sample_size", sample_size), ("batch_size", batch_size)]


def taken_apart(
    dataset: Dataset[Any] | DataLoader[Any], batch_size: float, options: dict[str, Any]
) -> tuple[Dataset[Any], dict[str, Any]]:
    """The dataset of a DataLoader, and its options under those given; a dataset as it is.

    ``batch_size``: that of the engine. ValueError for a loader that chooses its samples in a way of
    its own: the engine draws them, and what the loader leaves out would be trained on. Shuffling
    and ``drop_last`` are no such choices: Poisson batches are random, and none is incomplete.
    """
    if not isinstance(dataset, DataLoader):
        return dataset, options
    if isinstance(dataset.dataset, IterableDataset):  # which nobody can sample from
        return dataset.dataset, options
    require(
        type(dataset).__iter__ is DataLoader.__iter__,
        "PrivacyEngine.loader",
        "a plain DataLoader, or a dataset",
        f"a {type(dataset).__name__}, which makes its batches in its own way",
        "pass the dataset, and collate_fn where its samples need one",
    )
    own = dataset.batch_sampler if dataset.batch_size is None else dataset.sampler
    require(
        own is None or _takes_every_sample(own, dataset.dataset),
        "PrivacyEngine.loader",
        "a DataLoader without a sampler or a batch_sampler of its own",
        type(own).__name__,
        "the engine draws Poisson samples of the whole dataset, and would train on what the sampler"
        " leaves out; for a fixed subset pass torch.utils.data.Subset(dataset, indices), and its "
        "size as sample_size",
    )
    require(
        dataset.batch_size == round(batch_size),
        "PrivacyEngine.loader",
        f"a DataLoader of the engine's batch_size = {batch_size}",
        dataset.batch_size,
        "give both the same, or pass the dataset; where memory is short pass microbatch_size",
    )
    return dataset.dataset, {name: getattr(dataset, name) for name in _OPTIONS} | options


def _takes_every_sample(sampler: Any, dataset: Any) -> bool:
    """Whether ``sampler`` is one that a DataLoader makes itself, of all samples, each once."""
    return (
        type(sampler) in (SequentialSampler, RandomSampler)
        and sampler.data_source is dataset
        and not getattr(sampler, "replacement", False)
        and len(sampler) == len(dataset)
    )
