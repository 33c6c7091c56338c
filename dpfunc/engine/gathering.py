"""The batch under way: its microbatches watched, clipped and added up until a step takes them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dpfunc.checks import require
from dpfunc.engine.chance_taken import ChanceTaken
from dpfunc.engine.checks import refuse_own_gradient, require_own_gradients, require_unchanged
from dpfunc.engine.forward import WatchedForward
from dpfunc.engine.fully_sharded import FullySharded
from dpfunc.engine.loss_check import LossCheck
from dpfunc.engine.passes import Microbatch
from dpfunc.engine.unreleased import NoGradientsYet
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, weighted_sum
from dpfunc.step.microbatch import Part, joined
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import State, Tensors


class Gathered(NamedTuple):
    """What samples contribute to a step. ``mask``: bool ``[B]``, False for one that only fills up.

    NOT private.
    """

    part: Part
    mask: Tensor
    shard: int

    def counted(self) -> Part:
        """The part without what only fills up, which adds nothing to its sum."""
        norms = {name: norm[self.mask] for name, norm in self.part.norms.items()}
        return Part(self.part.summed, norms, self.part.losses[self.mask])


class Gathering:
    """Takes in microbatch after microbatch of one batch, and gives it away whole.

    ``forward``: what the hooks on ``model`` call. ``guards``: whether reading ``.grad`` between
    a backward pass and the step is an error.
    """

    guards = True

    def __init__(
        self,
        model: nn.Module,
        params: Tensors,
        private: PrivateGrad,
        loss_reduction: str,
        sharded: FullySharded | None = None,
    ) -> None:
        self.forward = WatchedForward(model, params, self.current, sharded)
        self._sharded = sharded
        self._model = model
        self._params = params
        self._private = private
        self._is_mean = loss_reduction == "mean"
        self._check = LossCheck(loss_reduction)
        self._unread = NoGradientsYet(params, refuse_own_gradient)
        self._now: Microbatch | None = None
        self._parts: list[Gathered] = []
        self._begun = 0

    def attach_names(self) -> list[Any]:
        """The hooks by which parameters get their names in a forward pass, where they need any."""
        return [] if self._sharded is None else self._sharded.attach(self.forward.name)

    def current(self) -> Microbatch:
        """The samples that a forward pass or a step is on."""
        if self._now is None:
            raise RuntimeError(
                "PrivacyEngine: expected a Poisson batch from engine.loader(dataset) for each step "
                "but there is none; iterate over engine.loader(dataset), which samples as the "
                "accounting assumes, and use model.eval() or torch.no_grad() for any other pass."
            )
        return self._now

    @property
    def is_under_way(self) -> bool:
        """Whether a batch was begun that no step has taken."""
        return self._now is not None or bool(self._parts)

    def turn_to(self, number: int) -> None:
        """Part ``number`` of a batch comes next; the first one begins the batch anew.

        What a loop has left behind in the middle of a batch comes again when it starts over, and
        would count twice. RuntimeError for a part out of order.
        """
        if number == 0:
            self.forget()
        self.close()
        require(
            number == self._begun,
            "PrivacyEngine",
            f"part {self._begun} of the batch",
            f"part {number}",
            "let one loader at a time hand out all parts of a batch, in order",
            error=RuntimeError,
        )

    def begin(self, microbatch: Microbatch, tensors: list[Tensor]) -> None:
        """The loop gets these samples next; ``tensors``: all that it gets of them."""
        size = microbatch.size
        microbatch.chance = ChanceTaken(microbatch.mask.device)
        microbatch.program.watch([t for t in tensors if t.dim() > 0 and t.shape[0] == size])
        self._now = microbatch
        self._begun += 1

    @contextmanager
    def backward(self) -> Iterator[None]:
        """What every backward pass of the loop runs in."""
        with self.current().recomputing(self._params):
            yield
        if self.guards:
            self._unread.begin()

    def finish(self, clip_state: State, *, must: bool = False) -> None:
        """Clip and add up what was noted of the current samples; ``must``: of some, at least."""
        microbatch = self._now
        if microbatch is None or (not microbatch.passes and not must):
            return
        require(
            len(microbatch.program.losses) > 0,
            "PrivacyEngine",
            "loss.backward() for each batch that goes through the model",
            "none",
            "call it for every batch; to leave some out because of what is in them leaks it",
            error=RuntimeError,
        )
        self._unread.end()
        require_own_gradients(self._params)
        require_unchanged(self._model, self._params)
        grads = self._per_sample(microbatch)
        scale = float(microbatch.size) if self._is_mean else 1.0
        scale *= microbatch.divided_by
        unknown = torch.full_like(microbatch.mask, math.nan, dtype=torch.float32)
        norms, weights = self._private.norms_and_weights(grads, clip_state, microbatch.mask, scale)
        as_they_are = global_norm(norms) / microbatch.divided_by  # of the losses
        self._check.look(microbatch, grads, as_they_are, self.forward)
        add = weighted_sum if self._sharded is None else self._sharded.add
        part = Part(add(grads, weights), norms, unknown)
        self._parts.append(Gathered(part, microbatch.mask, microbatch.shard))
        self.close()

    def _per_sample(self, microbatch: Microbatch) -> dict[str, Factored]:
        if self._sharded is None:
            return microbatch.per_sample(self._params)
        local = {  # one number each: it tells shapes
            name: torch.zeros((), dtype=param.dtype, device=param.device).expand(param.shape)
            for name, param in self._params.items()
        }
        with self._sharded.gathered(any(each.rows.derived for each in microbatch.passes)):
            return microbatch.per_sample(local)

    def whole(self) -> tuple[Part, Tensor]:
        """All of the batch so far, joined, and its mask."""
        part = self._parts[0].part
        for other in self._parts[1:]:
            part = joined(part, other.part)
        return part, torch.cat([gathered.mask for gathered in self._parts])

    def by_shard(self, own: range) -> list[Part]:
        """What was gathered of each shard, joined; RuntimeError where nothing was of one."""
        shards: dict[int, Part] = {}
        for gathered in self._parts:
            part, before = gathered.counted(), shards.get(gathered.shard)
            shards[gathered.shard] = part if before is None else joined(before, part)
        require(
            list(shards) == list(own),
            "PrivacyEngine",
            f"the parts of the shards {list(own)}, in order",
            list(shards),
            "pass every part that the loader hands out through the model",
            error=RuntimeError,
        )
        return list(shards.values())

    def last_of(self) -> tuple[Tensors, Tensor]:
        """The norms of this process's samples, and their mask: for `clipped_share`."""
        names = self._parts[0].part.norms
        norms = {n: torch.cat([gathered.part.norms[n] for gathered in self._parts]) for n in names}
        return norms, torch.cat([gathered.mask for gathered in self._parts])

    def close(self) -> None:
        """Let go of what was noted of the current samples."""
        if self._now is not None:
            self._now.program.close()
        self._now = None

    def forget(self) -> None:
        """Let go of the whole batch."""
        self._unread.end()
        self.close()
        self._parts, self._begun = [], 0
        if self._sharded is not None:
            self._sharded.forget()
