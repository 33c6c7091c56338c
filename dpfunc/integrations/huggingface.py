"""`PrivacyEngine` in the Trainer of Hugging Face: a callback, a dataset and a data collator."""

import base64
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dpfunc.checks import require
from dpfunc.engine.budget import BudgetSpentError
from dpfunc.engine.hooks import Hook
from dpfunc.engine.privacy_engine import PrivacyEngine
from dpfunc.integrations.resuming import resume
from dpfunc.integrations.step_dataset import StepCollator, StepDataset, columns_of
from dpfunc.integrations.trainer_checks import require_supported
from dpfunc.integrations.turns import Turns
from dpfunc.persample.batches.nested import tensors_in
from dpfunc.random.keys import fold_in

try:
    from accelerate.optimizer import AcceleratedOptimizer
    from transformers import TrainerCallback, default_data_collator
    from transformers.trainer_callback import ExportableState
    from transformers.trainer_utils import set_seed, unwrap_peft_model
    from transformers.utils import find_labels, logging
except ImportError as error:
    raise ImportError(
        "dpfunc.integrations.huggingface needs transformers >= 5.2 and accelerate; "
        "pip install 'dpfunc[huggingface]'"
    ) from error

_logger = logging.get_logger(__name__)


class PrivacyCallback(TrainerCallback, ExportableState):
    """Makes an unmodified ``transformers.Trainer`` train the model of ``engine`` privately.

    >>> import tempfile
    >>> import dpfunc as dp
    >>> from transformers import Trainer, TrainingArguments
    >>> class Classifier(nn.Linear):
    ...     def forward(self, x, labels=None):
    ...         logits = super().forward(x)
    ...         return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
    >>> model = Classifier(3, 2)
    >>> data = [{"x": torch.arange(3.0) + k, "labels": k % 2} for k in range(40)]
    >>> engine = dp.PrivacyEngine(model, sample_size=40, batch_size=8, epochs=1, delta=1e-3,
    ...                           noise_multiplier=1.3, max_grad_norm=1.0, key=dp.key())
    >>> callback = PrivacyCallback(engine)
    >>> arguments = TrainingArguments(
    ...     tempfile.mkdtemp(), num_train_epochs=1, use_cpu=True, save_strategy="no",
    ...     disable_tqdm=True, report_to="none", logging_strategy="no", **callback.arguments)
    >>> trainer = Trainer(model, arguments, callbacks=[callback],
    ...     train_dataset=callback.dataset(data), data_collator=callback.collator())
    >>> _ = trainer.train()  # doctest: +ELLIPSIS
    {'train_runtime': ...}
    >>> engine.steps_taken, round(engine.epsilon(), 2)
    (5, 1.4)

    Guarantee: that of `PrivacyEngine`. Batches are its Poisson batches, whatever the Trainer would
    have drawn; a step of the Trainer is a step of the engine. While it trains, dropout masks come
    from the engine's key, by step and process, and not from the seed of the arguments. Settings
    under which that would not hold are refused when the Trainer is made. What is logged is not
    private, apart from epsilon, and neither is an evaluation on private data.

    ``gradient_accumulation_steps``: in how many parts each batch goes through the model, to save
    memory. On several processes, under torchrun, give the engine ``group=WORLD``, and here the
    number of shards of a process: the release is that of one process. Training stops when the
    budget is spent. Checkpoints carry the engine's state, in ``trainer_state.json``;
    ``train(resume_from_checkpoint=...)`` goes on with a new engine of the same key. The callback
    belongs into the constructor of the Trainer, and leaves the model and the optimizer as they were
    when training ends.

    | case | result |
    |---|---|
    | a batch without samples | one sample that counts nothing; the step releases noise |
    | ``max_grad_norm`` of the arguments | without effect: gradients appear within the step |
    | ``max_steps`` beyond the budget | a warning; the run stops at the budget |
    | a resumed checkpoint from before steps that this engine has taken | ValueError |
    """

    def __init__(self, engine: PrivacyEngine, *, gradient_accumulation_steps: int = 1) -> None:
        self._engine = engine
        self._turns = Turns(engine, gradient_accumulation_steps)
        self._parts = gradient_accumulation_steps
        self._dataset: StepDataset | None = None
        self._collator: StepCollator | None = None
        self._own_loss = False
        self._position: int | None = None
        self._handles: list[Any] = []
        # The Trainer asks for this when it is made: losses are then means over samples, and not
        # sums divided by the number of tokens in the batch.
        self._inner: nn.Module = unwrap_peft_model(engine.model)
        self._had_setting = "accepts_loss_kwargs" in vars(self._inner)
        if not self._had_setting:
            self._inner.accepts_loss_kwargs = False

    @property
    def arguments(self) -> dict[str, Any]:
        """For ``TrainingArguments``: batches come from the engine one by one, in their order."""
        return {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": self._parts,
            "train_sampling_strategy": "sequential",
            "max_grad_norm": 0.0,
            "average_tokens_across_devices": False,
            "ddp_find_unused_parameters": False,
        }

    def dataset(self, dataset: Any) -> StepDataset:
        """The ``train_dataset``: its items are the engine's batches of samples of ``dataset``."""
        require(
            hasattr(dataset, "__getitem__") and len(dataset) == self._engine.sample_size,
            "PrivacyCallback.dataset",
            f"a dataset of sample_size = {self._engine.sample_size} samples, read by index",
            (type(dataset).__name__, len(dataset) if hasattr(dataset, "__len__") else "no length"),
            "give the engine the size of this dataset",
        )
        steps = self._engine.budget.steps_per_epoch
        self._dataset = StepDataset(
            dataset, self._turns.parts, steps=steps, processes=self._engine.processes
        )
        return self._dataset

    def collator(self, collate: Callable[[list[Any]], Any] | None = None) -> StepCollator:
        """The ``data_collator``: it hands the samples of a batch to ``collate``."""
        self._collator = StepCollator(collate or default_data_collator)
        return self._collator

    def loss(self, losses: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
        """The ``compute_loss_func``: the mean of ``losses(outputs, labels)``, which are ``[B]``.

        For models whose own loss is a mean over the tokens of the batch; those of
        `dpfunc.integrations.token_loss` are means over the tokens of a sample.
        """
        self._own_loss = True

        def mean(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG001  # given
            loss = losses(outputs, labels).mean()
            return loss / self._parts if torch.is_grad_enabled() else loss  # as of the model's own

        return mean

    # What the Trainer calls

    def on_init_end(self, args: Any, _state: Any, _control: Any, **given: Any) -> None:
        require_supported(args, parts=self._parts, processes=self._engine.processes)
        require(
            given["model"] is self._engine.model,
            "PrivacyCallback",
            "a Trainer of the engine's model",
            type(given["model"]).__name__,
            "make the engine of the very module that you give to the Trainer",
        )
        self._restore_setting()
        if self._collator is not None and args.remove_unused_columns:
            labels = args.label_names or find_labels(type(self._inner))
            self._collator.columns = columns_of(self._inner, labels)

    def on_train_begin(self, args: Any, state: Any, _control: Any, **given: Any) -> None:
        self._release()
        require_supported(args, parts=self._parts, processes=self._engine.processes)
        self._require_loader(given["train_dataloader"])
        self._resume(state)
        left = self._engine.remaining_steps()
        if left < 1:
            raise BudgetSpentError("PrivacyCallback: expected a budget for training; it is spent.")
        if state.max_steps - state.global_step > left:
            _logger.warning(f"The budget allows for {left} steps; training will stop there.")
        optimizer = given["optimizer"]
        if isinstance(optimizer, AcceleratedOptimizer):
            optimizer = optimizer.optimizer
        self._engine.attach(optimizer, guard_gradients=False)  # the Trainer logs their norm
        self._turns.restart()
        self._handles = [  # in front of the engine's own hook, which needs to know the batch
            self._engine.model.register_forward_pre_hook(
                Hook(self._before_forward), with_kwargs=True, prepend=True
            )
        ]

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._seed("epoch")
        if self._dataset is not None:
            behind = state.global_step % self._engine.budget.steps_per_epoch
            self._dataset.first_step = self._engine.steps_taken - behind

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._seed("step")
        self._position = 0

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self._position = self._turns.position

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        if self._engine.remaining_steps() < 1:
            control.should_training_stop = True

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        logs["epsilon"] = state.log_history[-1]["epsilon"] = self._engine.epsilon()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._release()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the engine: text, as it becomes part of a JSON file."""
        buffer = io.BytesIO()
        torch.save(self._engine.state_dict(), buffer)
        return {"args": {}, "attributes": {"engine": base64.b64encode(buffer.getvalue()).decode()}}

    # How

    def _before_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._position is None or not (module.training and torch.is_grad_enabled()):
            return
        labelled = any(name in kwargs for name in find_labels(type(self._inner)))
        require(
            self._parts == 1 or self._own_loss or labelled,
            "PrivacyCallback",
            "a compute_loss_func made by callback.loss(...), where gradients are accumulated",
            "another one",
            "pass compute_loss_func=callback.loss(losses)",
        )
        position, self._position = self._position, None
        tensors = tensors_in((args, kwargs))
        self._turns.announce(position, tensors, averaged=True)

    def _seed(self, of: str) -> None:
        """Dropout masks and augmentations that nobody knows, in place of those of ``args.seed``.

        They go by the place in a batch, and a record more shifts the others: known masks, and the
        same on several processes, would move a sum by more than the bound.
        """
        parts = self._turns.parts
        own = 0 if parts.own is None else parts.own.start
        secret = fold_in(parts.key, "trainer", of, self._engine.steps_taken, own).secret_bytes
        set_seed(int.from_bytes(secret[:4], "big"))  # numpy takes 32 bits

    def _require_loader(self, loader: Any) -> None:
        require(
            self._dataset is not None and loader.dataset is self._dataset,
            "PrivacyCallback",
            "train_dataset=callback.dataset(dataset)",
            type(loader.dataset).__name__,
            "batches have to be Poisson samples, which is what the accounting assumes",
        )
        require(
            self._collator is not None,
            "PrivacyCallback",
            "data_collator=callback.collator(...)",
            "none",
            "it collates the samples of each batch",
        )

    def _resume(self, state: Any) -> None:
        """Take over the engine's state from a checkpoint, which is in the Trainer's state."""
        saved = state.stateful_callbacks.get(type(self).__name__)
        require(
            isinstance(saved, dict),
            "PrivacyCallback",
            "a checkpoint of a run with this callback, and one such callback",
            type(saved).__name__,
            "pass callbacks=[callback] to the Trainer that makes the checkpoint",
        )
        text = saved["attributes"]["engine"]
        resume(self._engine, torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True))

    def _restore_setting(self) -> None:
        if not self._had_setting:
            vars(self._inner).pop("accepts_loss_kwargs", None)

    def _release(self) -> None:
        """Leave the model and the optimizer as they were, if this callback has changed them."""
        self._restore_setting()
        if self._handles:
            self._engine.detach()
        for handle in self._handles:
            handle.remove()
        self._handles, self._position = [], None
