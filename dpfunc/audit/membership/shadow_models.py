"""Shadow models: many models of one kind, each trained on records of its own, all at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dpfunc.checks import is_count, is_real, plain, require
from dpfunc.random.discrete import bernoulli
from dpfunc.random.keys import Key, bits, fold_in, require_key

_FEW = 20  # records; below this, as many in as out in every model is nothing strange


class ShadowModels(NamedTuple):
    """``params``: what `init` made, after training, each tensor ``[count, ...]``. ``member``: bool
    ``[count, records]``, who was in the training data of which model."""

    params: Any
    member: Tensor


def shadow_models(
    init: Callable[[Key], Any],
    step: Callable[[Any, tuple[Tensor, ...], Tensor], Any],
    records: Sequence[Tensor],
    *,
    key: Key,
    steps: int,
    sample_rate: float,
    count: int = 128,
    member: Tensor | None = None,
    chunk: int = 64,
) -> ShadowModels:
    """Train ``count`` models at once, each on a half of ``records`` of its own.

    ``init(key)`` gives one model: a tensor, or dicts and tuples of tensors; what an optimiser keeps
    may be among them. ``step(params, batch, mask)`` takes one step of one model, a pure function:
    ``batch`` is a Poisson sample at ``sample_rate`` of this model's records, padded, ``mask`` bool
    ``[B]`` says which are no padding; it may be empty. ``torch.vmap`` runs it over ``chunk`` models
    at a time. The step may draw from PyTorch's own generator, for each model other numbers: a shadow of a private model clips and adds noise this way. Its noise protects nobody
    and needs to be no secret; the models are not private, and not to be published.

    Every record is in exactly half of the models, chosen at random, so that its "in" and "out" rest
    on equally many; within one model records are in independently of each other, each with
    probability 1/2. So a shadow model is a run with canaries whose coins are fair. ``member``
    takes memberships of your own, bool ``[count, records]``.

    | case | result |
    |---|---|
    | an odd ``count``, or one below 4 | ValueError |
    | ``member`` with exactly half of the records in every model: halves that were dealt | ValueError |

    >>> import torch, dpfunc as dp
    >>> shadows = shadow_models(
    ...     lambda key: torch.zeros(2),
    ...     lambda mean, batch, mask: mean + 0.1 * (mask[:, None] * (batch[0] - mean)).sum(0),
    ...     (dp.normal(dp.key(1), (30, 2)),), key=dp.key(0), steps=20, sample_rate=0.1, count=8)
    >>> shadows.params.shape, shadows.member.sum(0).unique().tolist()
    (torch.Size([8, 2]), [4])
    """  # noqa: E501  # a table's row is one line
    require_key("shadow_models", key)
    count, steps, rate, chunk = (plain(number) for number in (count, steps, sample_rate, chunk))
    _require_numbers(count, steps, rate, chunk)
    size = len(records[0]) if records else 0
    require(
        size > 0 and all(len(part) == size for part in records),
        "shadow_models",
        "records: tensors of one length, above 0",
        [len(part) for part in records],
        "pass inputs and labels of the same records",
    )
    if member is None:
        words = bits(fold_in(key, "who is in"), count * size).view(count, size)
        member = words.argsort(0).argsort(0) < count // 2
    _require_member(member, count, size)
    models = [init(fold_in(key, "model", number)) for number in range(count)]
    parts = [slice(start, start + chunk) for start in range(0, count, chunk)]
    # Each part of the models by itself throughout: nothing large is copied from step to step.
    chunks = [tree_map(lambda *leaves: torch.stack(leaves), *models[part]) for part in parts]
    together = torch.vmap(step, randomness="different")
    for number in range(steps):
        drawn = bernoulli(fold_in(key, "sample", number), (count, size), probability=rate)
        batches = _padded(drawn & member, parts, records[0].device)
        for place, (indices, mask) in enumerate(batches):
            batch = tuple(
                records_of.index_select(0, indices.flatten()).unflatten(0, indices.shape)
                for records_of in records
            )
            chunks[place] = together(chunks[place], batch, mask)
    params = tree_map(lambda *leaves: torch.cat(leaves), *chunks)
    return ShadowModels(params, member)


def _padded(
    drawn: Tensor, parts: Sequence[slice], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Of each part of the models the indices drawn, int64 ``[models, B]``, and their mask.

    One pass over all models: what each call costs would be paid by every part of them.
    """
    sizes = drawn.sum(1)
    model, record = drawn.nonzero(as_tuple=True)
    place = torch.arange(len(record)) - (sizes.cumsum(0) - sizes)[model]
    indices = torch.zeros(len(drawn), max(1, int(sizes.max())), dtype=torch.int64)
    indices[model, place] = record
    mask = torch.arange(indices.shape[1]) < sizes[:, None]
    widths = [max(1, int(sizes[part].max())) for part in parts]
    return [
        (indices[part, :width].to(device), mask[part, :width].to(device))
        for part, width in zip(parts, widths, strict=True)
    ]


def _require_numbers(count: int, steps: int, rate: float, chunk: int) -> None:
    require(
        is_count(count) and count >= 4 and count % 2 == 0,
        "shadow_models",
        "an even count of at least 4",
        count,
        "every record is in half of the models: use 64 or 128",
    )
    require(
        is_count(steps) and steps >= 1 and is_count(chunk) and chunk >= 1,
        "shadow_models",
        "at least one step, and one model at a time",
        (steps, chunk),
        "pass the steps of the model that is attacked",
    )
    require(
        is_real(rate) and 0 < rate <= 1,
        "shadow_models",
        "a sample_rate in (0, 1]",
        rate,
        "pass that of the model that is attacked",
    )


def _require_member(member: Any, count: int, size: int) -> None:
    require(
        isinstance(member, Tensor) and member.dtype == torch.bool and member.shape == (count, size),
        "shadow_models",
        f"a member of bool [{count}, {size}]",
        getattr(member, "shape", member),
        "pass who is in for each model",
    )
    halves = bool((2 * member.sum(1) == size).all())
    require(
        size < _FEW or not halves,
        "shadow_models",
        "a fair coin for each record of a model",
        f"exactly half of {size} in, in every model",
        "halves that are dealt out depend on each other, which no theorem about one run covers; "
        "toss coins, or leave member out",
    )
