"""One release of what all processes contribute: rounded, compared, added up, made noisy.

Every process makes the same collectives, whatever its data are: one message of 4 KiB, the sums, and
the norms where the clip rule learns from them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass

import torch
from torch import Tensor

from dpfunc.checks import require
from dpfunc.distributed.agreement import facts_of_params, in_agreement
from dpfunc.distributed.norms import gathered_norms
from dpfunc.distributed.processes import Processes
from dpfunc.distributed.sharded import own_rows, released_rows
from dpfunc.noise.exact_sums import OnGrid, add_, as_sum, exact_grid, most_samples, on_grid
from dpfunc.persample.factors.reduce import global_norm
from dpfunc.step.microbatch import Aux, Part
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.step.sampled import require_told
from dpfunc.types import State, Tensors


@dataclass(frozen=True)
class Contribution:
    """What the shards of one process add to a step. NOT private.

    ``total``: the sum over its shards, on the grid. ``norms``: ``{name: [B_v]}`` for each of them,
    of the samples that count. ``losses``: ``[B]``.
    """

    total: OnGrid
    norms: list[Tensors]
    losses: Tensor

    def sizes(self) -> list[int]:
        """How many samples each shard has."""
        return [len(next(iter(norms.values()))) for norms in self.norms]

    def aux(self) -> Aux:
        """What the step saw of this process's samples."""
        return Aux(self.losses, global_norm(joined_norms(self.norms)))


def contribution(subject: str, parts: Iterable[Part], params: Tensors, shards: int) -> Contribution:
    """The sum over the shards of a process: ``parts`` has one `Part` for each of them.

    Each is rounded alone, so that the sum of all is the same in any order; one at a time is kept.
    """
    size = sum(param.numel() for param in params.values())
    total, norms, losses = None, [], []
    for part in parts:
        require(
            math.isfinite(part.summed.bound),
            subject,
            "a finite bound of a sample",
            part.summed.bound,
            "clip with a finite max_norm: no grid is fine enough for an unclipped sum",
        )
        rounded = on_grid(part.summed, exact_grid(part.summed.bound, size=size, parts=shards))
        if total is None:
            total = rounded
        else:
            add_(total, rounded)
        norms.append(part.norms)
        losses.append(part.losses)
    if total is None:
        raise RuntimeError("a process without shards, which construction refuses")
    return Contribution(total, norms, torch.cat(losses))


def release_together(
    subject: str,
    private: PrivateGrad,
    processes: Processes,
    params: Tensors,
    state: State,
    work: Callable[[], tuple[dict[str, object], Contribution]],
) -> tuple[Tensors, State, Aux]:
    """`PrivateGrad.release` of the sum over all processes: the same gradients on each of them.

    ``work()``: facts that all have to share, and what this process contributes; an error in it is
    an error on all processes, before anything is released. ``aux`` is of this process alone.
    """
    mine, norms = _agreed(subject, private, processes, params, state, work)
    processes.add_up_([mine.total.values[name] for name in sorted(params)])
    part = Part(as_sum(mine.total), norms, mine.losses)
    grads, after, _ = private.release(part, params, state, _everyone(norms))
    return grads, after, mine.aux()


def release_sharded(
    subject: str,
    private: PrivateGrad,
    processes: Processes,
    params: Tensors,
    state: State,
    work: Callable[[], tuple[dict[str, object], Contribution]],
    *,
    whole: Tensors,
) -> tuple[Tensors, State, Aux]:
    """`release_together` for ``params`` that are sharded: gradients cut in the same way.

    ``whole``: the parameters gathered; they are emptied when nobody needs them any more.
    """
    mine, norms = _agreed(subject, private, processes, whole, state, work)
    clip_state = learned(private, norms, state)
    whole.clear()
    rows = own_rows(mine.total, params)
    return _released(private, mine, rows, params, state, clip_state)


def release_rows(
    subject: str,
    private: PrivateGrad,
    processes: Processes,
    params: Tensors,
    state: State,
    work: Callable[[], tuple[dict[str, object], Contribution]],
) -> tuple[Tensors, State, Aux]:
    """`release_sharded` of what has been added up over the processes: ``total`` is the own rows."""
    mine, norms = _agreed(subject, private, processes, params, state, work)
    clip_state = learned(private, norms, state)
    rows = as_sum(mine.total).values
    return _released(private, mine, rows, params, state, clip_state)


def _everyone(norms: Tensors) -> Tensor:
    """The mask of samples none of which is padding."""
    return torch.ones_like(next(iter(norms.values())), dtype=torch.bool)


def learned(private: PrivateGrad, norms: Tensors, state: State) -> State:
    """The state of the clip rule after a step with these norms."""
    clip_state = private.clip.update(norms, _everyone(norms), state["clip"])
    require_told(private.clip, state["clip"], clip_state)
    return clip_state


def _released(
    private: PrivateGrad,
    mine: Contribution,
    rows: Tensors,
    params: Tensors,
    state: State,
    clip_state: State,
) -> tuple[Tensors, State, Aux]:
    bound = mine.total.bound
    grads, noise_state = released_rows(private.noise, rows, params, state["noise"], bound)
    return grads, {"clip": clip_state, "noise": noise_state}, mine.aux()


def _agreed(
    subject: str,
    private: PrivateGrad,
    processes: Processes,
    params: Tensors,
    state: State,
    work: Callable[[], tuple[dict[str, object], Contribution]],
) -> tuple[Contribution, Tensors]:
    """What this process contributes, and the norms to learn from, once all processes agree."""
    device = next(iter(params.values())).device

    def told() -> tuple[dict[str, object], dict[str, int], Contribution]:
        facts, mine = work()
        facts = {**facts, **facts_of_step(private, params, state, mine)}
        sizes = mine.sizes()
        return facts, {"samples": sum(sizes), "largest": max(sizes)}, mine

    mine, counts = in_agreement(subject, processes, device, told)
    require_exact(subject, mine.total, sum(count["samples"] for count in counts))
    norms = mine.norms
    if state["clip"]:  # the rule learns, from the norms of all samples
        norms = gathered_norms(norms, max(count["largest"] for count in counts), processes)
    return mine, joined_norms(norms)


def joined_norms(norms: list[Tensors]) -> Tensors:
    return {name: torch.cat([shard[name] for shard in norms]) for name in norms[0]}


def facts_of_step(
    private: PrivateGrad, params: Tensors, state: State, mine: Contribution
) -> dict[str, object]:
    return {
        **facts_of_params(params),
        "key, noise multiplier and state of the noise": state["noise"],
        "state of the clip rule": state["clip"],
        "clip rule": _rule(private.clip),
        "expected_batch_size": private.expected_batch_size,
        "bound of a sample": mine.total.bound,
    }


def _rule(clip: object) -> str:
    """A rule with its numbers where it says them: a key in it tells nothing."""
    return repr(clip) if is_dataclass(clip) else type(clip).__name__


def require_exact(subject: str, total: OnGrid, samples: int) -> None:
    most = most_samples(total.grid, total.bound)
    require(
        samples <= most,
        subject,
        f"at most {most} samples in a step of so many parameters and shards",
        samples,
        "beyond that sums round, and depend on their order: take smaller batches",
    )
