"""The look at a batch whose gradients are there: at the model and the loss of its loop together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dpfunc.engine.forward import WatchedForward
from dpfunc.engine.passes import Microbatch
from dpfunc.engine.replaying import Replay
from dpfunc.engine.separable import (
    MixedSamplesError,
    compare_parts,
    is_parameter,
    require_separable,
)
from dpfunc.engine.without_chance import factored_without_chance
from dpfunc.persample.factors.forms import Factored
from dpfunc.persample.factors.reduce import global_norm, leaf_norms
from dpfunc.persample.whole_batch.draws import Draws
from dpfunc.persample.whole_batch.parts import Held
from dpfunc.persample.whole_batch.schedule import Due, is_time_to_look, settle
from dpfunc.types import Tensors

_FIRST_LOOK, _LATER_LOOK = 6, 1  # so many times a few samples together


class LossCheck:
    """Looks at the loss of a loop in its first batch, after 1, 2, 4, 8, ... and when it changes.

    In every batch the numbers that the loss is multiplied with must be those of the first one.
    """

    def __init__(self, reduction: str) -> None:
        self._reduction = reduction
        self._seen = 0
        self._numbers: dict[int, list[float]] = {}
        self._constants: dict[tuple[int, str], Tensor] = {}

    def look(
        self,
        microbatch: Microbatch,
        grads: Mapping[str, Factored],
        norms: Tensor,
        forward: WatchedForward,
    ) -> None:
        """MixedSamplesError where the loss is not made of one term for each sample.

        RuntimeError where the model mixes them. ``norms``: see `require_separable`.
        """
        numbers = microbatch.program.numbers()
        known = self._numbers.get(len(numbers))
        if known is not None and known != numbers:
            raise MixedSamplesError(
                "PrivacyEngine: expected the same numbers in the loss of every batch but got "
                f"{numbers} where it was {known}: a number that depends on the batch, such as "
                "len(x), mixes samples. Use .mean() and "
                'loss_reduction="mean", or a constant; for a schedule use PrivateGrad.'
            )
        is_due = known is None or is_time_to_look(self._seen)
        due = Due.CLOSELY if is_due else microbatch.due
        with forward.whole(due != Due.NOTHING) as params:
            if params is not None:
                with forward.costs.timed(), forward.undisturbed():
                    constants = self._constants_of(microbatch, params, grads, norms, forward, due)
                    self._compare(constants, numbers, norms.shape[0])
        forward.costs.count(due)
        for verified, keys in microbatch.verified:
            settle(verified, keys)
        self._numbers[len(numbers)] = numbers
        self._seen += 1

    def _constants_of(
        self,
        microbatch: Microbatch,
        params: Tensors,
        grads: Mapping[str, Factored],
        norms: Tensor,
        forward: WatchedForward,
        due: Due,
    ) -> dict[int, Tensor]:
        """The constants of a loss, and of a model, that keep samples apart.

        The gradients of the batch are compared with its parts. Where these disagree, the model is
        looked at by itself, and so is the loss. A model is looked at by itself in any case where
        numbers outside of it are coarser: parts that differ as much as these round may mix samples.
        A few samples of one that draws were looked at in its forward pass, but where this began.
        """
        program = microbatch.program
        few_times = _LATER_LOOK if self._seen else _FIRST_LOOK
        # Where rounding is fine, all samples in two parts show what a few together do.
        is_fine = program.rounding() <= torch.finfo(torch.float32).eps
        together = _LATER_LOOK if is_fine else few_times
        first: Tensor | None = None
        is_drawn = microbatch.chance.anything()
        is_coarse = program.rounding() > microbatch.finest
        begins_to_draw, forward.draws = is_drawn and not forward.draws, forward.draws or is_drawn
        for look in microbatch.model_looks if is_coarse or begins_to_draw else []:
            look(due if is_coarse else Due.BRIEFLY, None)  # at what it draws with, too
        if is_drawn and due < Due.CLOSELY:
            return {}

        def again(replay: Replay, samples: Tensor | None) -> dict[str, Factored]:
            return factored_without_chance(replay, microbatch, params, samples)[0]

        if microbatch.looks_later:
            times = float(microbatch.size) if self._reduction == "mean" else 1.0

            def held_for(replay: Replay) -> tuple[Held, Draws | None]:
                if not is_drawn:
                    return Held(grads, norms, program.rounding(), times), None
                own, draws = factored_without_chance(replay, microbatch, params)
                own_norms = times * global_norm(leaf_norms(own))
                return Held(own, own_norms, program.rounding(), times), draws

            constants, first = compare_parts(
                program,
                params,
                held_for,
                again,
                due,
                together=together,
                is_drawn=is_drawn,
            )
            if first is None:
                return constants
        for look in microbatch.model_looks:
            look(Due.CLOSELY, first)
        return require_separable(
            program,
            params,
            norms,
            self._reduction,
            few_times=few_times,
            first=first,
            again=again if microbatch.looks_later else None,
            widely=forward.in_float64,
        )

    def _compare(self, constants: dict[int, Tensor], numbers: list[float], size: int) -> None:
        """MixedSamplesError where numbers or constants are those of the batch."""
        if self._reduction == "sum" and size > 1 and {size, 1 / size} & set(numbers):
            raise MixedSamplesError(
                f"PrivacyEngine: expected a sum over the {size} samples but it is multiplied or "
                f'divided by their number; use .mean() and loss_reduction="mean".'
            )
        for place, constant in constants.items():
            if is_parameter(constant):
                continue
            known = (place, str(tuple(constant.shape)))
            before = self._constants.setdefault(known, constant.detach().clone())
            if not torch.equal(before, constant.detach()):
                raise MixedSamplesError(
                    "PrivacyEngine: expected a tensor that no sample is in to stay the same but "
                    f"one of shape {tuple(constant.shape)} in the loss has changed: if it is "
                    "computed from the batch it mixes samples. Compute it from the tensors of the "
                    "loader, or keep it fixed."
                )
