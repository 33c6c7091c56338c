"""The settings of a Hugging Face Trainer that private training is refused with, and why."""

from typing import Any

from dpfunc.checks import require

_CHECKPOINTED = ("activation", "gradient")  # the later name and the earlier one


def require_supported(args: Any, *, parts: int, processes: int) -> None:
    """ValueError unless the engine can keep its promise under these ``TrainingArguments``."""
    places = _places(args, processes)
    for ok, expected, got, remedy in (*_order(args, parts), *_numbers(args), *places):
        require(ok, "PrivacyCallback", expected, got, remedy)


def _order(args: Any, parts: int) -> list[tuple[bool, str, object, str]]:
    """Whether the batches come one by one, in the order in which they were drawn."""
    accumulated = args.gradient_accumulation_steps
    give = "pass **callback.arguments to TrainingArguments"
    return [
        (
            args.per_device_train_batch_size == 1,
            "per_device_train_batch_size=1, as an item of callback.dataset(...) is a whole batch",
            args.per_device_train_batch_size,
            give + "; how many samples a batch has is up to the engine's batch_size",
        ),
        (
            args.train_sampling_strategy == "sequential" and args.dataloader_in_order,
            'train_sampling_strategy="sequential" and dataloader_in_order=True',
            (args.train_sampling_strategy, args.dataloader_in_order),
            give + "; what is in a batch is random already",
        ),
        (
            accumulated == parts,
            f"gradient_accumulation_steps={parts}, as in PrivacyCallback(...)",
            accumulated,
            "give both the same number",
        ),
        (
            not args.dataloader_persistent_workers,
            "dataloader_persistent_workers=False",
            True,
            "workers have to learn where the next epoch begins",
        ),
        (
            not args.ignore_data_skip,
            "ignore_data_skip=False",
            True,
            "a resumed run goes on with the batch after the last one",
        ),
        (
            not args.restore_callback_states_from_checkpoint,
            "restore_callback_states_from_checkpoint=False",
            True,
            "the callback restores its engine itself",
        ),
        (
            not args.auto_find_batch_size,
            "auto_find_batch_size=False",
            True,
            "batches are Poisson samples; where memory is short raise gradient_accumulation_steps",
        ),
    ]


def _numbers(args: Any) -> list[tuple[bool, str, object, str]]:
    """Whether gradients are those of a mean over samples, at one scale."""
    return [
        (
            not args.fp16,
            "fp16=False, as its gradient scaling would change what is clipped",
            True,
            "use bf16=True, or full precision",
        ),
        (
            args.label_smoothing_factor == 0,
            "label_smoothing_factor=0, as the Trainer smooths over all tokens of a batch at once",
            args.label_smoothing_factor,
            "smooth in a loss of your own, compute_loss_func=callback.loss(...)",
        ),
        (
            not any(getattr(args, f"{what}_checkpointing", False) for what in _CHECKPOINTED)
            or _is_not_reentrant(args),
            'gradient_checkpointing_kwargs={"use_reentrant": False} beside gradient_checkpointing',
            getattr(args, "gradient_checkpointing_kwargs", None),
            "pass them: a reentrant part runs again where the engine does not see it",
        ),
        (
            args.neftune_noise_alpha is None,
            "neftune_noise_alpha=None",
            args.neftune_noise_alpha,
            "leave it out: the private gradient has noise of its own",
        ),
    ]


def _is_not_reentrant(args: Any) -> bool:
    names = [f"{what}_checkpointing_kwargs" for what in _CHECKPOINTED]
    given = [options for name in names if (options := getattr(args, name, None))]
    return len(given) > 0 and all(options.get("use_reentrant") is False for options in given)


def _places(args: Any, processes: int) -> list[tuple[bool, str, object, str]]:
    """Whether each process of the engine trains the plain module on one device."""
    wrapped = [
        name
        for name in ("deepspeed", "fsdp", "torch_compile", "parallelism_config")
        if getattr(args, name, None)
    ]
    return [
        (
            args.n_gpu <= 1,
            "one device, as DataParallel runs copies of the model",
            f"{args.n_gpu} GPUs",
            "set CUDA_VISIBLE_DEVICES to one of them",
        ),
        (
            args.world_size == processes,
            f"the {processes} processes of the engine" if processes > 1 else "one process",
            f"{args.world_size} processes",
            "give the engine group=torch.distributed.group.WORLD, after init_process_group",
        ),
        (
            processes == 1 or not args.average_tokens_across_devices,
            "average_tokens_across_devices=False, as it multiplies the loss",
            True,
            "pass **callback.arguments to TrainingArguments",
        ),
        (
            processes == 1 or args.ddp_find_unused_parameters is False,
            "ddp_find_unused_parameters=False, as it copies the loss out of sight",
            args.ddp_find_unused_parameters,
            "pass **callback.arguments to TrainingArguments",
        ),
        (not wrapped, "the plain module on one device", wrapped, "leave these arguments out"),
    ]
