"""The processes of a group, as a step sees them: who they are, and four ways to talk.

Without a process group there is one process, and talking is nothing: the same code runs on a laptop
and on a cluster.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from dpfunc.checks import require

Group = Any
"""A ``torch.distributed.ProcessGroup``: torch may have been built without it."""

_MESSAGE = 4096  # bytes: one size for all, so that no process waits for more than others send
_BUCKET = 2**22  # numbers that are added up in one call


@dataclass(frozen=True)
class Processes:
    """Those of ``group``, or of the default group; one alone where there is none."""

    group: Group = None

    @property
    def count(self) -> int:
        """How many there are: the world size."""
        return dist.get_world_size(self.group) if _initialised() else 1

    @property
    def own(self) -> int:
        """The number of this one among them, from 0: its rank."""
        own = dist.get_rank(self.group) if _initialised() else 0
        require(
            own >= 0,
            "DataParallel",
            "a group that this process is in",
            self.group,
            "pass the group of dist.new_group(ranks) on the processes in ranks alone",
        )
        return own

    @property
    def ranks(self) -> list[int]:
        """Which processes of all they are, in ascending order."""
        return sorted(dist.get_process_group_ranks(self.group)) if _initialised() else [0]

    def tell(self, message: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
        """What every process tells, in the order of their numbers: one collective of 4 KiB."""
        text = json.dumps(message).encode()
        if len(text) > _MESSAGE:
            raise ValueError(f"a message of {len(text)} bytes for {_MESSAGE}: {message}")
        if self.count == 1:
            return [message]
        own = torch.tensor(list(text.ljust(_MESSAGE)), dtype=torch.uint8, device=device)
        told = self.gathered(own)
        return [json.loads(bytes(row.tolist())) for row in told.cpu()]

    def gathered(self, own: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape: ``[count, *shape]``; one collective.

        Where there is one process, a view of its own.
        """
        if self.count == 1:
            return own[None]
        everyone = own.new_empty((self.count, *own.shape))
        with self._together():
            dist.all_gather(list(everyone.unbind(0)), own.contiguous(), group=self.group)
        return everyone

    def add_up_(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes the sum over the processes: a collective for each 32 MiB of float64.

        How many there are depends on the shapes alone.
        """
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            row = torch.cat([part.reshape(-1) for part in bucket])  # some are transposed
            with self._together():
                dist.all_reduce(row, group=self.group)
            for part, summed in zip(bucket, row.split([p.numel() for p in bucket]), strict=True):
                part.copy_(summed.view_as(part))

    def follow_first_(self, tensor: Tensor) -> None:
        """``tensor``, contiguous, gets the numbers that the first process has; one collective."""
        if self.count > 1:
            with self._together():
                dist.broadcast(tensor, group=self.group, group_src=0)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Inside is a collective: where another process is missing, the error says so."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"dpfunc.distributed: expected all {self.count} processes to take part in a step "
                "but one has stopped, or has not come within the timeout of the group "
                "(init_process_group(timeout=...)); see what that process says. torch says: "
                f"{str(error).splitlines()[0]}"
            ) from error


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors in order, together as long as they are small together; a large one alone."""
    buckets: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if not buckets or tensor.numel() > room:
            buckets.append([])
            room = _BUCKET
        buckets[-1].append(tensor)
        room -= tensor.numel()
    return buckets
