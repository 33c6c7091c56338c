"""`DataParallel`: a step whose batch is spread over processes, and released as by one.

A record belongs to a virtual shard by a rule that knows its number alone. There are so many shards
however many processes there are; each process works on its share of them, one after the other, and
rounds what a shard contributes to a fine grid (`dpfunc.noise.exact_sums`). Then no addition rounds,
and the sum is the same in any order, on any number of processes.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.checks import is_count, plain, require
from dpfunc.distributed.processes import Group, Processes
from dpfunc.distributed.records import records_of
from dpfunc.distributed.sharded import gathered, is_sharded, require_on
from dpfunc.distributed.shared_release import (
    Contribution,
    contribution,
    release_sharded,
    release_together,
)
from dpfunc.persample.batches.batch import as_args, batch_device, batch_size
from dpfunc.random.keys import Key, fold_in
from dpfunc.sampling.afresh import Poisson
from dpfunc.step.microbatch import Aux, Part, in_microbatches
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import State, Tensors

_SUBJECT = "DataParallel.update"
_DRAWS = 64  # whose sizes are kept, for a loader that draws ahead


@dataclass(frozen=True)
class DataParallel:
    """A step of ``private`` on all processes of ``group``: each works on some of the shards.

    The batch of a step is cut into ``shards`` virtual shards, a number that is fixed for a run
    and that the number W of processes divides. A record is in shard `sampling.shard_of`. Process r
    of W gets the shards r, r + W, r + 2 W, ...; every process gets the whole private gradient.

    Guarantee: that of ``private``, for one record of one data set that all processes see, under
    adding or removing it. Each shard's clipped sum is rounded to a grid so fine that all roundings
    together add at most ``2**-12 C`` to the sensitivity C, whatever record is in which shard: that
    is within what the noise is widened by. docs/distributed.md proves it. The noise is made on
    every process from the same key, once a step: nobody sends it, and it is added once.

    With the same kernels for the same shapes (one device type, one number of threads) the released
    gradients are the same bit for bit on 1, 2, 3, ... processes: whole numbers are added, exactly.
    A run that is resumed on another number of processes repeats its releases. Without a process
    group it runs in one process.

    ``private``: a `PrivateGrad`. Its ``microbatch_size`` bounds how many samples of a shard are
    worked on at a time. ``group``: a process group of torch, None for the default one. The key and
    the data set have to be the same on all processes, and ``params`` and ``state``: a step compares
    all but the data, and refuses on all processes. Where one process raises an error, the others
    raise its words; where one dies or stays away, the others get the error of the group's timeout
    (``torch.distributed.init_process_group(timeout=...)``).

    | case | result |
    |---|---|
    | a shard, or all of a process, or all of the batch, without samples | counts as zero |
    | an infinite bound | ValueError: no grid is fine enough for an unclipped sum |
    | another number of shards than that of the state | ValueError |
    | processes with another key, step, model or clip state | RuntimeError; nothing is released |

    >>> import torch, dpfunc as dp
    >>> private = dp.PrivateGrad(
    ...     lambda params, x: (params["w"] * x).sum(), clip=dp.Clip(1.0),
    ...     noise=dp.GaussianNoise(0.0, key=dp.key()), expected_batch_size=2,
    ... )
    >>> data, params = torch.eye(2), {"w": torch.zeros(2)}
    >>> parallel = dp.distributed.DataParallel(private, shards=2)
    >>> state = parallel.init(params)
    >>> drawn = parallel.batches(dp.key(), 0, size=2, rate=1.0)
    >>> grads, state, aux = parallel.update(params, [data[i] for i in drawn], state)
    >>> grads
    {'w': tensor([0.5000, 0.5000])}
    """

    private: PrivateGrad
    _: KW_ONLY
    shards: int
    group: Group = None
    _drawn: dict[int, tuple[str, list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        require(
            isinstance(self.private, PrivateGrad),
            "DataParallel",
            "a PrivateGrad",
            type(self.private).__name__,
            "build one first: dpfunc.PrivateGrad(loss_fn, clip=..., noise=...)",
            error=TypeError,
        )
        require(
            self.private.microbatch_size != "auto" or self.private.memory_budget is not None,
            "DataParallel",
            'a memory_budget beside microbatch_size="auto"',
            None,
            "free memory differs from process to process, and with it the bits of a sum",
        )
        processes = Processes(self.group)
        shards = plain(self.shards)
        require(
            is_count(shards) and shards >= 1 and shards % processes.count == 0,
            "DataParallel",
            f"shards as a multiple of the {processes.count} processes",
            shards,
            "take a number that every number of processes you may run on divides, such as 12 or "
            "64; it is fixed for the run",
        )
        object.__setattr__(self, "shards", shards)

    @property
    def own_shards(self) -> range:
        """The numbers of the shards that this process works on, in the order of its batches."""
        processes = Processes(self.group)
        return range(processes.own, self.shards, processes.count)

    def init(self, params: Tensors) -> State:
        """The state before the first step: that of ``private``, and the number of shards."""
        return {**self.private.init(params), "step": 0, "shards": self.shards}

    def batches(self, key: Key, step: int, *, size: int, rate: float) -> list[Tensor]:
        """The records of this process: int64 ``[B_v]`` for each of its shards, ``own_shards``.

        A shard may be empty. Over all processes each record that `sampling.poisson` draws for this
        ``key`` and ``step`` comes exactly once. ``size``: that of the whole data set, ``rate``: the
        chance of a record. `update` compares the draws of all processes, where this object has
        made them.

        ValueError beside a ``sampler`` of ``private`` that is another than this one.
        """
        sampler = self.private.sampler
        require(
            sampler is None or sampler == Poisson(size=size, rate=rate),
            "DataParallel.batches",
            "a PrivateGrad without a sampler, or with these Poisson samples",
            sampler,
            "draw with the sampler itself, whose event counts its own samples, and cut each batch "
            "by dpfunc.sampling.shard_of",
        )
        own = Poisson(size=size, rate=rate)
        drawn = records_of(key, step, sampler=own, own=self.own_shards, shards=self.shards)
        told = fold_in(key, "agree", f"{size} {float(rate).hex()}").secret_bytes.hex()[:16]
        if len(self._drawn) == _DRAWS:
            del self._drawn[min(self._drawn)]
        self._drawn[step] = f"{size} records at rate {rate}, {told}", [len(i) for i in drawn]
        return drawn

    def update(
        self, params: Tensors, batches: Sequence[Any], state: State
    ) -> tuple[Tensors, State, Aux]:
        """One step: ``(grads, state, aux)``; call it on every process.

        ``batches``: for each of ``own_shards`` what `PrivateGrad.update` takes as a batch: the
        samples of its records, without padding. ``grads``, ``state``: the same on all processes; of
        parameters from `shard`, ``grads`` are cut as they are; those have to lie on the processes
        of ``group``.
        ``aux``: of this process's samples alone, shard after shard. NOT private.
        """

        sharded = is_sharded(params)
        if sharded:
            require_on(_SUBJECT, params, Processes(self.group))
        whole = gathered(params) if sharded else params

        def own_half() -> tuple[dict[str, object], Contribution]:
            self.require_state(state)
            drawn = self.require_batches(batches, state)
            parts = (self._part(whole, batch, state["clip"]) for batch in batches)
            mine = contribution("DataParallel", parts, whole, self.shards)
            facts = {"draw of records": drawn, "step": state["step"]}
            return {**facts, "number of shards": self.shards}, mine

        release = partial(release_sharded, whole=whole) if sharded else release_together
        processes = Processes(self.group)
        grads, after, aux = release(_SUBJECT, self.private, processes, params, state, own_half)
        return grads, {**after, "step": state["step"] + 1, "shards": self.shards}, aux

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from, on any number of processes: see `PrivateGrad.resume`."""
        self.require_state(state)
        return self.private.resume(state, key=key)

    def event(self, state: State, *, sample_rate: float | None = None) -> Event:
        """What the steps up to ``state`` released: see `PrivateGrad.event`."""
        return self.private.event(state, sample_rate=sample_rate)

    def _part(self, params: Tensors, batch: Any, clip_state: State) -> Part:
        """What one shard contributes, as floats."""
        private, args = self.private, tuple(as_args(batch))
        mask = torch.ones(batch_size(args), dtype=torch.bool, device=batch_device(args))
        at_a_time = private.samples_at_a_time(params, args, clip_state)
        return in_microbatches(private.clipped_sum, params, args, clip_state, mask, at_a_time)

    def require_state(self, state: State) -> None:
        require(
            state.get("shards") == self.shards,
            "DataParallel",
            f"a state of {self.shards} shards, from init or update",
            state.get("shards", "one without shards"),
            "resume with the shards that the run began with, on any number of processes that "
            "divides them: other shards round in another way",
        )

    def require_batches(self, batches: Sequence[Any], state: State) -> str:
        """The draw that they are of, as far as this object knows; ValueError for wrong batches."""
        own = len(self.own_shards)
        is_list = isinstance(batches, list | tuple)
        require(
            is_list and len(batches) == own,
            _SUBJECT,
            f"a list of {own} batches, one for each of this process's shards",
            f"{len(batches)} of them" if is_list else type(batches).__name__,
            "pass [(x[i], y[i]) for i in parallel.batches(key, step, size=..., rate=...)]",
        )
        draw, sizes = self._drawn.get(state["step"], ("not by DataParallel.batches", None))
        found = [batch_size(tuple(as_args(batch))) for batch in batches]
        require(
            sizes is None or found == sizes,
            _SUBJECT,
            f"the {sizes} records that batches(...) drew for step {state['step']}",
            found,
            "a record counts once in a step: pass each shard's own records, in order",
        )
        return draw
