"""`PrivacyEngine`: a private loop out of the one that you have, in two lines."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dpfunc.accounting.domination.release import Relation
from dpfunc.clipping.rules import Clip
from dpfunc.distributed.processes import Group
from dpfunc.engine.account import Account, require_saved
from dpfunc.engine.attachment import Attachment
from dpfunc.engine.batches import Drawn, PoissonBatches, PoissonLoader
from dpfunc.engine.budget import plan
from dpfunc.engine.checks import (
    require_detached,
    require_in_turn,
    require_microbatches,
    require_no_closure,
    require_one_shard,
    require_optimizer,
    require_options,
    require_sized,
    require_trainable,
    require_unchanged,
)
from dpfunc.engine.gathering import Gathering
from dpfunc.engine.given_loader import sampler_of, taken_apart
from dpfunc.engine.last_step import LastStep
from dpfunc.engine.parts import Parts
from dpfunc.engine.passes import Microbatch
from dpfunc.engine.program import Program
from dpfunc.engine.slips import (
    OF_OPACUS,
    SpentOnce,
    StepsWithoutEngine,
    no_attribute,
    require_attached,
)
from dpfunc.engine.team import Team
from dpfunc.naming import in_name_of, own_arguments
from dpfunc.random.keys import Key
from dpfunc.sampling.scheme import Sampler
from dpfunc.step.private_grad import PrivateGrad
from dpfunc.strategies.records import Buffered, InverseToeplitz, Toeplitz
from dpfunc.types import ClipRule


class PrivacyEngine(Account):
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
    ...     nn.functional.cross_entropy(model(x), y).backward()
    ...     optimizer.step()
    >>> engine.steps_taken, round(engine.epsilon(), 2)
    (5, 1.4)

    Guarantee: that of `PrivateGrad` with Poisson sampling at rate ``batch_size / sample_size``,
    under ``relation``, for as many steps as were taken; ``epsilon()`` is its certified upper bound
    at ``delta``. ``sample_size`` counts as public. The loss has to be the mean or the sum
    (``loss_reduction``) of one term for each sample; this is tried on parts of the batch, and what
    the model does to its samples is verified as by `batched`: at the first batch, after 1, 2, 4, 8,
    ... batches, and when shapes change. What such a look cannot see is a dependence that shows only
    in other batches, and Python code of the loop that reads the data (``.item()``) and changes the
    loss by it: keeping that out is up to the loop's author.

    ``data``: a DataLoader in the place of ``sample_size`` and ``batch_size``, which are then its
    own. ``batch_size``: expected size of a batch. ``steps`` or ``epochs``: what is planned.
    ``noise_multiplier`` or ``target_epsilon``: the noise, or the budget that it is found for; with
    both, the run stops at the budget. ``clip``: another rule than ``Clip(max_grad_norm)``; one that
    learns is paid for out of the budget, and gets the engine's key.
    ``sampler``: who takes part in a step, of `dpfunc.sampling`, in the place of sizes and data;
    ``strategy``: correlated noise, for at most its steps. The sampler's event is what is counted; a
    pair that no theorem is known for is refused here (docs/correlated.md).
    ``on_budget_spent``: called once in place of the error, with the engine; the loader ends.
    ``group``: ``torch.distributed.group.WORLD`` to train on all processes, each on its ``shards``
    of a batch, with the weights of the first process: docs/distributed.md.

    ``with PrivacyEngine(...).attach(optimizer) as engine`` detaches it at the end. An error inside
    on one process is one on all. Dropout masks come from torch's generator: do not seed it with a
    number that others know, nor with one on several processes.

    | case | result |
    |---|---|
    | a batch without samples | one sample that counts nothing; the step releases noise |
    | a microbatch that is not the last of its batch | ``optimizer.step()`` changes nothing |
    | the next step would exceed the budget | BudgetSpentError; nothing has changed |
    """

    @own_arguments("PrivacyEngine", OF_OPACUS)
    @in_name_of("PrivacyEngine", max_norm="max_grad_norm")
    def __init__(
        self,
        model: nn.Module,
        *,
        delta: float,
        key: Key,
        data: DataLoader[Any] | None = None,
        sample_size: int | None = None,
        batch_size: float | None = None,
        max_grad_norm: float | None = None,
        clip: ClipRule | None = None,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        sampler: Sampler | None = None,
        strategy: Toeplitz | InverseToeplitz | Buffered | None = None,
        relation: Relation = "add_or_remove",
        loss_reduction: str = "mean",
        on_budget_spent: Callable[["PrivacyEngine"], None] | None = None,
        group: Group = None,
        shards: int | None = None,
    ) -> None:
        require_options(max_grad_norm, clip, loss_reduction)
        rule: ClipRule = Clip(max_grad_norm) if clip is None else clip  # type: ignore[arg-type]  # one is given
        sampler, batch_size = sampler_of(data, sample_size, batch_size, sampler)
        self.sample_size = sampler.size
        require_one_shard(group, strategy, rule)
        budget = plan(
            sampler=sampler,
            strategy=strategy,
            clip=rule,
            delta=delta,
            relation=relation,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            steps=steps,
            epochs=epochs,
        )
        self.loss_reduction, self._model = loss_reduction, model
        self._params = require_trainable(model)
        self._team = Team(group, shards, next(iter(self._params.values())).device)
        self._sharded = sharded = self._team.sharded(model, self._params)
        private = PrivateGrad(
            model if sharded is None else sharded.no_loss,
            clip=rule,
            noise=budget.noise(key),
            expected_batch_size=batch_size,
            sampler=sampler,
        )
        super().__init__(budget, private, key, self._params, StepsWithoutEngine(self._params))
        self._spent_once = SpentOnce(on_budget_spent)
        self._gathering = Gathering(model, self._params, private, loss_reduction, sharded)
        self._attachment: Attachment | None = None

    def __getattr__(self, name: str) -> NoReturn:
        raise no_attribute(name)

    @in_name_of("PrivacyEngine.attach")
    def attach(
        self, optimizer: torch.optim.Optimizer, *, guard_gradients: bool = True
    ) -> "PrivacyEngine":
        """From now on ``optimizer.step()`` takes private steps. Returns the engine.

        ``guard_gradients``: whether reading ``.grad`` before the step is an error; else it is None,
        for trainers that cope with it. RuntimeError where another one is attached.
        """
        require_detached(self._attachment)
        require_optimizer(optimizer, self._params, self._model)
        self._team.begin(self._model)
        self._gathering.guards = guard_gradients
        self._without.end()
        self._attachment = Attachment(self, self._model, self._params, self._gathering, optimizer)
        return self

    def detach(self) -> None:
        """Leave the model and the optimizer as they were. The engine keeps its count."""
        if self._attachment is not None:
            self._attachment.remove()
        self._attachment = None

    def __enter__(self) -> "PrivacyEngine":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and self._gathering.is_under_way:
            self._team.tell(error)
        self.detach()

    def __repr__(self) -> str:
        return (
            f"PrivacyEngine({type(self._model).__name__}, sample_size={self.sample_size}, "
            f"noise_multiplier={self.noise_multiplier:.4g}, steps_taken={self._steps}, "
            f"{'attached' if self._attachment else 'not attached'})"
        )

    @in_name_of("PrivacyEngine.loader", of=r"(?!PrivacyEngine).*")
    def loader(
        self,
        dataset: Dataset[Any] | DataLoader[Any],
        *,
        microbatch_size: int | None = None,
        **options: Any,
    ) -> PoissonLoader:
        """The batches of ``dataset``, one epoch of them each time it is iterated.

        A DataLoader in its place gives its dataset and its options, such as ``collate_fn``. With
        ``microbatch_size`` a batch comes in several parts of at most so many samples; call
        ``optimizer.step()`` after each, the last one takes the step.
        """
        dataset, options = taken_apart(dataset, self._private.expected_batch_size, options)
        require_sized(dataset, self.sample_size, options)
        require_microbatches(microbatch_size, is_sharded=self._sharded is not None)
        queue: list[Drawn] = []
        batches = PoissonBatches(
            self._key,
            sampler=self.budget.sampler,
            steps=self.budget.steps_per_epoch,
            microbatch_size=microbatch_size,
            own=self._team.own,
            first_step=lambda: self._steps,
            note=queue.append,
        )
        return PoissonLoader(dataset, batches, queue, self.announce, **options)

    def parts(self, count: int = 1) -> Parts:
        """The same batches in ``count`` parts, with a ``group`` its shards: for other loaders."""
        own = self._team.own if self._team.is_shared else None
        return Parts(self._key, self.budget.sampler, count, own)

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        return self._team.own.step

    def announce(self, drawn: Drawn, tensors: list[Tensor], *, divided_by: int = 1) -> bool:
        """The loop gets these samples next. False where the budget is spent and a callback said so.

        Called by `loader`; other loaders, of `parts`, have to call it. ``divided_by``: what the
        loop divides its loss by, beside ``loss_reduction``: parts, where it averages over them.
        """
        with self._team.telling():
            require_attached(self._attachment, self._without)
            self._gathering.finish(self._state["clip"])
            require_in_turn(drawn.step, self._steps)
            self._gathering.turn_to(drawn.number)
        if self._is_spent():
            return False
        mask = drawn.mask.to(next(iter(self._params.values())).device)
        program = Program(mask.device.type, len(mask), self._gathering.backward)
        microbatch = Microbatch(mask, program, drawn.last, divided_by, drawn.shard)
        self._gathering.begin(microbatch, tensors)
        return True

    @property
    def model(self) -> nn.Module:
        """The user's own module."""
        return self._model

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"shards": self._team.shards}

    @in_name_of("PrivacyEngine.load_state_dict")
    def load_state_dict(self, state: dict[str, Any]) -> None:
        require_saved(state)
        self._team.require_shards(state.get("shards"))
        super().load_state_dict(state)
        self._gathering.forget()

    # What the hooks call

    def before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The hook that runs before ``optimizer.step()``."""
        with self._team.telling():
            require_no_closure(args, kwargs)
            require_unchanged(self._model, self._params)
            require_optimizer(optimizer, self._params, self._model)
            is_last = self._gathering.current().last
            self._gathering.finish(self._state["clip"], must=True)
        if not is_last or self._is_spent():
            return
        norms, mask = self._gathering.last_of()
        self._last = LastStep(norms, self._state["clip"], mask)
        params = {name: param.detach() for name, param in self._params.items()}
        run = {"sample_size": self.sample_size, **self.budget.facts(), "step": self._steps}
        grads, self._state = self._team.release(
            self._private, self._gathering, params, self._state, run
        )
        self._gathering.forget()  # first of all: nothing of a batch may be in the next one
        self._released(grads)  # counted before anyone can see them
        for name, param in self._params.items():
            param.grad = grads[name]

    def _is_spent(self) -> bool:
        if self.remaining_steps() >= 1:
            return False
        if not self._spent_once.call(self):
            raise self.budget.spent_error(self._steps)
        return True
