"""`PrivacyEngine`: a private loop out of the one that you have, in two lines."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dpfunc import accounting
from dpfunc.checks import require
from dpfunc.clipping.rules import Clip
from dpfunc.engine.attachment import Attachment
from dpfunc.engine.batches import Drawn, PoissonBatches, PoissonLoader
from dpfunc.engine.budget import plan
from dpfunc.engine.checks import (
    require_detached,
    require_one_rule,
    require_optimizer,
    require_sized,
    require_trainable,
    require_unchanged,
)
from dpfunc.engine.gathering import Gathering
from dpfunc.engine.given_loader import taken_apart
from dpfunc.engine.hooks import closure_of
from dpfunc.engine.parts import Parts
from dpfunc.engine.passes import Microbatch
from dpfunc.engine.program import Program
from dpfunc.noise.gaussian import GaussianNoise
from dpfunc.random.keys import Key
from dpfunc.step.one_process import require_one_process
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.types import ClipRule, State, Tensors


class PrivacyEngine:
    """Makes an ordinary training loop differentially private. The model stays as it is.

    >>> import dpfunc as dp
    >>> model = nn.Linear(3, 2)
    >>> x, y = dp.normal(dp.key(), (40, 3)), torch.arange(40) % 2
    >>> data = torch.utils.data.TensorDataset(x, y)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> engine = dp.PrivacyEngine(model, sample_size=40, batch_size=8, noise_multiplier=1.3,
    ...                           max_grad_norm=1.0, delta=1e-3, key=dp.key()).attach(optimizer)
    >>> for x, y in engine.loader(data):
    ...     optimizer.zero_grad()
    ...     loss = nn.functional.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    >>> engine.steps_taken, round(engine.epsilon(), 2)
    (5, 1.4)

    Guarantee: that of `PrivateGrad` with Poisson sampling at rate ``batch_size / sample_size``,
    under adding or removing one sample, for as many steps as were taken; ``epsilon()`` is its
    certified upper bound at ``delta``. ``sample_size`` counts as public. The loss has to be the
    mean or the sum (``loss_reduction``) of one term for each sample; this is tried on parts of the
    batch, and what the model does to its samples is verified as by `batched`: at the first batch,
    after 1, 2, 4, 8, ... batches, and when shapes change. What such a look cannot see is a
    dependence that shows only in other batches, and Python code of the loop that reads the data
    (``.item()``) and changes the loss by it: keeping that out is up to the loop's author.

    ``batch_size``: expected size of a batch. ``steps`` or ``epochs``: what is planned.
    ``noise_multiplier`` or ``target_epsilon``: the noise, or the budget that it is found for; with
    both, the run stops at the budget. ``clip``: another rule than ``Clip(max_grad_norm)``.
    ``on_budget_spent``: called in the place of the error, with the engine; the loader then ends.

    Dropout masks come from torch's generator: do not seed it with a number that others know.

    | case | result |
    |---|---|
    | a batch without samples | one sample that counts nothing; the step releases noise |
    | a microbatch that is not the last of its batch | ``optimizer.step()`` changes nothing |
    | the next step would exceed the budget | BudgetSpentError; nothing has changed |
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sample_size: int,
        batch_size: float,
        delta: float,
        key: Key,
        max_grad_norm: float | None = None,
        clip: ClipRule | None = None,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        loss_reduction: str = "mean",
        on_budget_spent: Callable[["PrivacyEngine"], None] | None = None,
    ) -> None:
        require_one_process("PrivacyEngine")
        require_one_rule(max_grad_norm, clip)
        require(
            loss_reduction in ("mean", "sum"),
            "PrivacyEngine",
            'loss_reduction "mean" or "sum"',
            loss_reduction,
            "say what the loss of a batch is of the losses of its samples",
        )
        self.budget = plan(
            sample_size=sample_size,
            batch_size=batch_size,
            delta=delta,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            steps=steps,
            epochs=epochs,
        )
        self.sample_size = sample_size
        self.loss_reduction = loss_reduction
        self._model = model
        self._params = require_trainable(model)
        self._key = key
        self._private = PrivateGrad(
            model,
            clip=clip if clip is not None else Clip(max_grad_norm or 0.0),
            noise=GaussianNoise(self.budget.noise_multiplier, key=key),
            expected_batch_size=batch_size,
        )
        self._state: State = self._private.init({})
        self._steps = 0
        self._on_budget_spent = on_budget_spent
        self._gathering = Gathering(model, self._params, self._private, loss_reduction)
        self._attachment: Attachment | None = None
        self._last: tuple[Tensors, State, Tensor] | None = None

    def attach(
        self, optimizer: torch.optim.Optimizer, *, guard_gradients: bool = True
    ) -> "PrivacyEngine":
        """From now on ``optimizer.step()`` takes private steps. Returns the engine.

        RuntimeError where another one is attached. ``guard_gradients``: whether reading ``.grad``
        before the step is an error; else it is None, for trainers that cope with it.
        """
        require_one_process("PrivacyEngine")
        require_detached(self._attachment)
        require_optimizer(optimizer, self._params, self._model)
        self._gathering.guards = guard_gradients
        self._attachment = Attachment(self, self._model, self._params, self._gathering, optimizer)
        return self

    def detach(self) -> None:
        """Leave the model and the optimizer as they were. The engine keeps its count."""
        if self._attachment is not None:
            self._attachment.remove()
        self._attachment = None

    def loader(
        self,
        dataset: Dataset[Any] | DataLoader[Any],
        *,
        microbatch_size: int | None = None,
        **options: Any,
    ) -> PoissonLoader:
        """Poisson batches of ``dataset``, one epoch of them each time it is iterated.

        A DataLoader in its place gives its dataset and its options, such as ``collate_fn``. With
        ``microbatch_size`` a batch comes in several parts of at most so many samples; call
        ``optimizer.step()`` after each, the last one takes the step.
        """
        dataset, options = taken_apart(dataset, self._private.expected_batch_size, options)
        require_sized(dataset, self.sample_size, options)
        queue: list[Drawn] = []
        batches = PoissonBatches(
            self._key,
            size=self.sample_size,
            rate=self.budget.sample_rate,
            steps=self.budget.steps_per_epoch,
            microbatch_size=microbatch_size,
            first_step=lambda: self._steps,
            note=queue.append,
        )
        return PoissonLoader(dataset, batches, queue, self.announce, **options)

    def parts(self, count: int = 1) -> Parts:
        """The same batches, each in ``count`` parts: for loaders that are made elsewhere."""
        return Parts(self._key, self.sample_size, self.budget.sample_rate, count)

    def announce(self, drawn: Drawn, tensors: list[Tensor], *, divided_by: int = 1) -> bool:
        """The loop gets these samples next. False where the budget is spent and a callback said so.

        Called by `loader`; other loaders, of `PoissonBatches` or `parts`, have to call it
        themselves. ``divided_by``: what the loop divides its loss by, beside ``loss_reduction``:
        the number of parts where it averages over them.
        """
        self._gathering.finish(self._state["clip"])
        require(
            drawn.step == self._steps,
            "PrivacyEngine",
            f"the batch of step {self._steps}",
            f"that of step {drawn.step}, after a batch that went through the model without a step",
            "call optimizer.step() once for each batch, whatever was in it; for larger batches "
            "raise batch_size, with microbatch_size in loader(...) where memory is short",
            error=RuntimeError,
        )
        self._gathering.close()
        if self._is_spent():
            return False
        device = next(iter(self._params.values())).device
        mask = drawn.mask.to(device)
        program = Program(device.type, len(mask), self._gathering.backward)
        microbatch = Microbatch(mask, program, drawn.last, divided_by)
        self._gathering.begin(microbatch, tensors)
        return True

    # The budget

    @property
    def steps_taken(self) -> int:
        """So many noisy gradients have been released."""
        return self._steps

    @property
    def model(self) -> nn.Module:
        """The user's own module."""
        return self._model

    def clipped_share(self) -> float:
        """Share of the samples in the last step that were scaled down. NOT private. NaN if none."""
        if self._last is None:
            return math.nan
        norms, clip_state, mask = self._last
        weights = self._private.clip.weights(norms, clip_state).values.values()
        clipped = torch.stack([weight < 1 for weight in weights]).any(0)
        return float(clipped[mask].double().mean())

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over ``max_grad_norm``."""
        return self.budget.noise_multiplier

    def event(self) -> accounting.Event:
        """What was released so far, for `accounting`: to be composed with other runs, say."""
        return self._private.event(self._state, sample_rate=self.budget.sample_rate)

    def epsilon(self) -> float:
        """The certified upper bound on what was spent, at ``delta``."""
        return self.budget.epsilon(self._steps)

    def remaining_steps(self) -> float:
        """How many steps are left; infinite where neither a budget nor steps were given."""
        return self.budget.remaining(self._steps)

    # State

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, beside the model, the optimizer and the key. No secret."""
        return {"steps": self._steps, "private": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of this run, with the key of this run. ValueError for another."""
        self._state = self._private.resume(state["private"], key=self._key)
        self._steps = state["steps"]
        self._gathering.forget()

    # What the hooks call

    def before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The hook that runs before ``optimizer.step()``."""
        require(
            closure_of(args, kwargs) is None,
            "PrivacyEngine",
            "optimizer.step() without a closure",
            "a closure",
            "a closure runs again on a batch that has been paid for once; compute the loss and "
            "call loss.backward() before the step",
            error=RuntimeError,
        )
        require_unchanged(self._model, self._params)
        require_optimizer(optimizer, self._params, self._model)
        is_last = self._gathering.current().last
        self._gathering.finish(self._state["clip"], must=True)
        if not is_last or self._is_spent():
            return
        part, mask = self._gathering.whole()
        params = {name: param.detach() for name, param in self._params.items()}
        self._last = part.norms, self._state["clip"], mask
        grads, self._state, _ = self._private.release(part, params, self._state, mask)
        for name, param in self._params.items():
            param.grad = grads[name]
        self._steps += 1
        self._gathering.forget()

    def _is_spent(self) -> bool:
        if self.remaining_steps() >= 1:
            return False
        if self._on_budget_spent is None:
            raise self.budget.spent_error(self._steps)
        self._on_budget_spent(self)
        return True
