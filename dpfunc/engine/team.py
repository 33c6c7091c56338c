"""The processes that train with an engine: which shards are this one's, and one release of all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dpfunc.checks import is_count, plain, require
from dpfunc.distributed.agreement import tell_failure
from dpfunc.distributed.processes import Group, Processes
from dpfunc.distributed.shared_release import (
    Contribution,
    contribution,
    release_rows,
    release_together,
)
from dpfunc.distributed.sharing import share_weights_
from dpfunc.engine.fully_sharded import FullySharded, is_fully_sharded
from dpfunc.engine.gathering import Gathering
from dpfunc.step.one_process import require_one_process
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import State, Tensors

_SUBJECT = "PrivacyEngine"


class Team:
    """The processes of ``group``; without one this process alone, and no other may be about.

    ``shards``: virtual shards of a batch, see `dpfunc.distributed.DataParallel`; None for as many
    as there are processes. ``device``: one that the backend of the group serves.
    """

    def __init__(self, group: Group, shards: int | None, device: torch.device) -> None:
        self._group = group
        self._device = device
        self._sharded: FullySharded | None = None
        if group is None:
            require_one_process(_SUBJECT, "pass group=torch.distributed.group.WORLD")
        require(
            shards is None or group is not None,
            _SUBJECT,
            "shards beside a group of processes",
            shards,
            "pass group=torch.distributed.group.WORLD, or leave shards out",
        )
        self._processes = Processes(group)
        count = self._processes.count
        shards = count if shards is None else plain(shards)
        require(
            is_count(shards) and shards >= 1 and shards % count == 0,
            _SUBJECT,
            f"shards as a multiple of the {count} processes",
            shards,
            "take a number that every number of processes you may run on divides, such as 12",
        )
        self.own = range(self._processes.own, shards, count)
        self.shards = None if group is None else shards

    def sharded(self, model: nn.Module, params: Tensors) -> FullySharded | None:
        """What serves a ``model`` of `fully_shard`; None for a plain one."""
        if not is_fully_sharded(model):
            return None
        self._sharded = FullySharded(model, params, self._processes, self.shards)
        return self._sharded

    @property
    def is_shared(self) -> bool:
        """Whether the sums are rounded and added up by shards."""
        return self.shards is not None

    def begin(self, model: nn.Module) -> None:
        """All processes have one model from here on: that of the first.

        RuntimeError where other processes have come that the engine does not know of.
        """
        if self._group is None:
            require_one_process(_SUBJECT, "make the engine anew, with a group")
        elif self._processes.count > 1:
            share_weights_("PrivacyEngine.attach", model, self._processes)

    def require_shards(self, shards: int | None) -> None:
        """ValueError for the state of a run on other shards, or of one without any."""
        require(
            shards == self.shards,
            _SUBJECT,
            f"a state of {self.shards or 'no'} shards",
            shards or "none",
            "resume with the shards that the run began with, on any number of processes that "
            "divides them: other shards round in another way",
        )

    @contextmanager
    def telling(self) -> Iterator[None]:
        """An error inside is one on all processes: none waits for this one."""
        try:
            yield
        except BaseException as error:
            if self.is_shared:
                tell_failure(self._processes, self._device, error)
            raise

    def tell(self, error: BaseException) -> None:
        """An error of the loop itself, in the middle of a batch, is one on all processes.

        Not with `fully_shard`: the others wait for this one inside of the model.
        """
        if self.is_shared and self._sharded is None:
            tell_failure(self._processes, self._device, error)

    def release(
        self,
        private: PrivateGrad,
        gathering: Gathering,
        params: Tensors,
        state: State,
        facts: dict[str, object],
    ) -> tuple[Tensors, State]:
        """The private gradient of all that the processes gathered, and the next state."""
        if not self.is_shared:
            part, mask = gathering.whole()
            grads, after, _ = private.release(part, params, state, mask)
            return grads, after

        sharded, shards = self._sharded, self.own.stop

        def own_half() -> tuple[dict[str, object], Contribution]:
            parts = gathering.by_shard(self.own)
            if sharded is None:
                mine = contribution(_SUBJECT, parts, params, shards)
            else:
                losses = torch.cat([part.losses for part in parts])
                mine = Contribution(sharded.total(), [part.norms for part in parts], losses)
            return {**facts, "number of shards": shards}, mine

        subject = f"{_SUBJECT}, optimizer.step()"
        release = release_together if sharded is None else release_rows
        grads, after, _ = release(subject, private, self._processes, params, state, own_half)
        return grads, after
