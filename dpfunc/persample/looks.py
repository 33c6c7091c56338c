"""Looks at a loss of the whole batch: before it runs, where its samples are; after it, whether so.

`Learned` is what a look finds out. Where nothing is drawn at random, the gradients that the batch
is clipped by are compared with parts of the batch (`parts`); where that disagrees, or chance is in
the loss, the look of `verify` decides, which costs more and tells what is wrong.
"""

from typing import Any

from torch import Tensor

from dpfunc.persample.batches.batch import batch_size, map_tensors
from dpfunc.persample.definition.dense import losses_and_grad
from dpfunc.persample.definition.loss import Batched, Randomness
from dpfunc.persample.factors.closeness import close, tolerances
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, leaf_norms
from dpfunc.persample.watched_rows import run_rows, way_of
from dpfunc.persample.watching.tap import Record
from dpfunc.persample.whole_batch.lengths import in_these_lengths
from dpfunc.persample.whole_batch.parts import Held, PartsDifferError, disagreeing
from dpfunc.persample.whole_batch.places import Places
from dpfunc.persample.whole_batch.schedule import (
    BRIEFLY_ALONE,
    FEW_SAMPLES,
    Due,
    Known,
    Learned,
    due_on_way,
    keep,
    known_places,
    settle,
)
from dpfunc.persample.whole_batch.verify import (
    choose,
    require_unchanged,
    verified_places,
    writes,
)
from dpfunc.types import Tensors


def learned_places(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    *,
    samples: int = FEW_SAMPLES,
    first: Tensor | None = None,
    together: bool,
    alone: int = FEW_SAMPLES,
    like: Learned | None = None,
) -> Learned:
    """Where the samples are in the tensors of ``loss_fn``, learned and verified.

    ``alone``, ``like``, ``first``: see `verified_places`; those that are suspected are chosen, too.
    ``together``: also on all of ``batch`` at once. Raises OffPlanError where they take another way
    than the few that it was learned from: then give all as ``samples``.
    """
    record = Record()

    def run(
        places: Places, params: Tensors, batch: tuple[Any, ...]
    ) -> tuple[dict[str, Factored], Tensor]:
        record.clear()
        return run_rows(loss_fn, randomness, params, batch, places, record)

    chosen = choose(batch_size(batch), samples, first)
    learned = verified_places(
        loss_fn, run, params, batch, chosen, together=together, alone=alone, like=like, first=first
    )
    keep(loss_fn, params, batch, learned)
    return learned


def places_to_try(
    loss_fn: Batched,
    randomness: Randomness,
    params: Tensors,
    batch: tuple[Any, ...],
    known: Known,
) -> Learned:
    """Where the samples are, for a run that is looked at afterwards."""
    if known.learned is not None:
        return known.learned
    if known.like is not None:
        learned = in_these_lengths(loss_fn, way_of, params, batch, known.like)
        if learned is not None:
            keep(loss_fn, params, batch, learned)
            return learned
    alone = 0 if randomness == "error" else FEW_SAMPLES  # what is drawn with is compared there
    return learned_places(loss_fn, randomness, params, batch, together=False, alone=alone)


class Look:
    """The look at one batch, if one is due: what comes before it runs, and after."""

    def __init__(
        self, loss_fn: Batched, randomness: Randomness, params: Tensors, batch: tuple[Any, ...]
    ) -> None:
        self._given = loss_fn, randomness, params, batch
        self._known = known_places(loss_fn, params, batch)
        self._due = self._known.due
        self._writes = writes(batch)

    def before(self, *, whole: bool) -> Learned:
        """Where the samples are; ``whole``: learned anew, from all of them."""
        loss_fn, randomness, params, batch = self._given
        if whole:
            self._due = Due.NOTHING
            size = batch_size(batch)
            return learned_places(loss_fn, randomness, params, batch, samples=size, together=True)
        if randomness == "error":  # nothing is drawn: the run itself can be compared
            learned = places_to_try(*self._given, self._known)
            self._due = due_on_way(loss_fn.verified, self._known, learned)
            return learned
        due, self._due = self._due, Due.NOTHING
        if due == Due.NOTHING and self._known.learned is not None:
            return self._known.learned
        if due == Due.CLOSELY:
            return learned_places(*self._given, together=True)
        return learned_places(
            *self._given, together=False, alone=BRIEFLY_ALONE, like=self._known.like
        )

    def after(self, learned: Learned, grads: dict[str, Factored], losses: Tensor) -> None:
        """RuntimeError where the gradients are not those of the samples.

        Or where the batch was written to: its parts would then be of what samples became together.
        """
        require_unchanged(self._given[3], self._writes)
        if self._due != Due.NOTHING:
            self._compare(learned, grads, losses)
        if self._known.due != Due.NOTHING:
            settle(self._given[0].verified, self._known.keys)

    def _compare(self, learned: Learned, grads: dict[str, Factored], losses: Tensor) -> None:
        loss_fn, _, params, batch = self._given

        relative, small = tolerances(learned.rounding)

        def of_part(samples: Tensor, weights: Tensor) -> Tensors:
            part = map_tensors(lambda values: values[samples.to(values.device)], batch)
            try:
                apart, plain = losses_and_grad(loss_fn, params, part, weights.to(losses))
            except (RuntimeError, ValueError, IndexError) as error:
                raise PartsDifferError from error
            in_batch = losses[samples.to(losses.device)]
            if not close(in_batch, apart, relative, floor=small * float(apart.double().norm())):
                raise PartsDifferError
            return plain

        held = Held(grads, global_norm(leaf_norms(grads)), learned.rounding)
        suspects = disagreeing(held, of_part, self._due, together=0)
        if suspects is not None:
            learned_places(*self._given, first=suspects, together=True)
