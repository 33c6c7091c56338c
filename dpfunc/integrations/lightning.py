"""`PrivacyEngine` in the Trainer of Lightning: a callback, and a loader of Poisson batches."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from dpfunc.checks import require
from dpfunc.engine.checks import require_sized
from dpfunc.engine.hooks import Hook, closure_of
from dpfunc.engine.parts import Parts
from dpfunc.engine.privacy_engine import PrivacyEngine
from dpfunc.integrations.resuming import resume
from dpfunc.integrations.turns import Turns
from dpfunc.persample.batches.nested import tensors_in

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise ImportError(
            "dpfunc.integrations.lightning needs lightning or pytorch_lightning; "
            "pip install 'dpfunc[lightning]'"
        ) from error


class StepSampler(Sampler[list[int]]):
    """The parts of an epoch's batches, from the step on that the engine has come to."""

    def __init__(self, engine: PrivacyEngine, parts: Parts) -> None:
        self._engine = engine
        self._parts = parts
        self._steps = engine.budget.steps_per_epoch

    def __len__(self) -> int:
        return self._steps * self._parts.count

    def __iter__(self) -> Iterator[list[int]]:
        first = self._engine.steps_taken
        for step in range(first, first + self._steps):
            for part in self._parts.of(step):
                yield list(part.indices)


class StepLoader(DataLoader[Any]):
    """A DataLoader that can go on in the middle of an epoch: its sampler asks the engine where."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the engine's state is in the checkpoint already."""
        return {}

    def load_state_dict(self, _state: dict[str, Any]) -> None:
        """Nothing."""


class PrivacyCallback(Callback):
    """Makes an unmodified Lightning ``Trainer`` train the model of ``engine`` privately.

    >>> import dpfunc as dp
    >>> import lightning
    >>> class Classifier(lightning.LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = torch.nn.Linear(3, 2)
    ...     def training_step(self, batch, batch_idx):
    ...         x, y = batch
    ...         return torch.nn.functional.cross_entropy(self.net(x), y)
    ...     def configure_optimizers(self):
    ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    >>> module = Classifier()
    >>> x = torch.arange(120.0).reshape(40, 3).sin()
    >>> data = torch.utils.data.TensorDataset(x, torch.arange(40) % 2)
    >>> engine = dp.PrivacyEngine(module.net, sample_size=40, batch_size=8, epochs=1, delta=1e-3,
    ...                           noise_multiplier=1.3, max_grad_norm=1.0, key=dp.key())
    >>> callback = PrivacyCallback(engine)
    >>> trainer = lightning.Trainer(max_epochs=1, callbacks=[callback], accelerator="cpu",
    ...     logger=False, enable_checkpointing=False, enable_progress_bar=False,
    ...     enable_model_summary=False)
    >>> trainer.fit(module, callback.loader(data))
    >>> engine.steps_taken, round(engine.epsilon(), 2)
    (5, 1.4)

    The engine's model is the module whose forward `training_step` calls: ``module.net`` where it
    calls ``self.net(x)``, the LightningModule itself where it calls ``self(x)``. All that the
    optimizer trains has to be in it.

    Guarantee: that of `PrivacyEngine`; a step of the optimizer is a step of the engine. Settings
    under which that would not hold are refused when training starts. What is logged is not private,
    apart from epsilon, and neither is a validation on private data.

    ``accumulate_grad_batches``: in how many parts each batch goes through the model, to save
    memory; the Trainer gets the same number. On several processes, under torchrun, with
    ``strategy="ddp"`` and ``use_distributed_sampler=False``, the engine has ``group=WORLD``, and
    this is the number of shards of a process. Training stops when the budget is spent. Checkpoints
    carry the engine's state; ``fit(ckpt_path=...)`` goes on with a new engine of the same key. With
    automatic optimization the Trainer passes a closure to the optimizer: it runs once, before the
    step, as the two lines ``loss.backward(); optimizer.step()`` would.

    | case | result |
    |---|---|
    | a batch without samples | one sample that counts nothing; the step releases noise |
    | ``max_epochs`` or ``max_steps`` beyond the budget | the run stops at the budget |
    | another loader than `loader`'s | ValueError |
    | a checkpoint from before steps that this engine has taken | ValueError |
    """

    def __init__(self, engine: PrivacyEngine, *, accumulate_grad_batches: int = 1) -> None:
        self._engine = engine
        self._turns = Turns(engine, accumulate_grad_batches)
        self._loader: StepLoader | None = None
        self._handles: list[Any] = []

    def loader(self, dataset: Any, **options: Any) -> StepLoader:
        """The train dataloader. ``options``: of a DataLoader, such as ``collate_fn``."""
        require_sized(dataset, self._engine.sample_size, options)
        sampler = StepSampler(self._engine, self._turns.parts)
        self._loader = StepLoader(dataset, batch_sampler=sampler, **options)
        return self._loader

    # What the Trainer calls

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._release()
        parts = self._turns.parts.count
        _require_supported(trainer, pl_module, parts, self._engine.processes)
        require(
            self._loader is not None and trainer.train_dataloader is self._loader,
            "PrivacyCallback",
            "trainer.fit(module, callback.loader(dataset))",
            type(trainer.train_dataloader).__name__,
            "batches have to be Poisson samples, which is what the accounting assumes",
        )
        [optimizer] = trainer.optimizers
        # In front of the engine's own hook, which refuses closures.
        self._handles = [optimizer.register_step_pre_hook(Hook(self._run_closure))]
        self._engine.attach(optimizer)
        self._turns.restart()

    def on_train_batch_start(
        self, _trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._turns.announce(
            batch_idx % self._turns.parts.count,
            tensors_in(batch),
            averaged=pl_module.automatic_optimization,
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if self._turns.position < self._turns.parts.count:
            return
        pl_module.log("epsilon", self._engine.epsilon(), prog_bar=True, batch_size=1)
        if self._engine.remaining_steps() < 1:
            trainer.should_stop = True

    def on_train_end(self, _trainer: Any, _pl_module: Any) -> None:
        self._release()

    def on_exception(self, _trainer: Any, _pl_module: Any, _exception: BaseException) -> None:
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the engine."""
        return self._engine.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, unless this engine is ahead of it."""
        resume(self._engine, state_dict)

    def _run_closure(self, _optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        """Run the closure of ``optimizer.step(closure)`` once, and step without it."""
        closure = closure_of(args, kwargs)
        if closure is None:
            return None
        closure()
        return args[:1], {name: value for name, value in kwargs.items() if name != "closure"}

    def _release(self) -> None:
        """Leave the model and the optimizer as they were, if this callback has changed them."""
        if self._handles:
            self._engine.detach()
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _require_supported(trainer: Any, pl_module: Any, parts: int, processes: int) -> None:
    """ValueError unless the engine can keep its promise under the settings of this Trainer."""
    checks = [
        (
            len(trainer.optimizers) == 1,
            "one optimizer",
            len(trainer.optimizers),
            "train everything with one",
        ),
        (
            trainer.world_size == processes,
            f"the {processes} processes of the engine" if processes > 1 else "one device",
            f"{trainer.world_size} processes",
            "pass devices=1, or give the engine group=torch.distributed.group.WORLD",
        ),
        (
            getattr(trainer.precision_plugin, "scaler", None) is None,
            "no gradient scaling, as it would change what is clipped",
            trainer.precision,
            'use precision="bf16-mixed", or full precision',
        ),
        (
            not trainer.gradient_clip_val,
            "gradient_clip_val=None, as gradients appear within the step only",
            trainer.gradient_clip_val,
            "the engine's max_grad_norm clips those of each sample",
        ),
        (
            not pl_module.automatic_optimization or trainer.accumulate_grad_batches == parts,
            f"accumulate_grad_batches={parts}, as in PrivacyCallback(...)",
            trainer.accumulate_grad_batches,
            "give both the same number",
        ),
    ]
    for ok, expected, got, remedy in checks:
        require(ok, "PrivacyCallback", expected, got, remedy)
