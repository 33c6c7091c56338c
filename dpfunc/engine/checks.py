"""What an ordinary loop is refused for, before anything has been released."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.utils.data import IterableDataset

from dpfunc.checks import is_count, require
from dpfunc.engine.hooks import closure_of
from dpfunc.modules.checking.looking import look
from dpfunc.step.one_process import require_unwrapped
from dpfunc.step.sampled import query_of
from dpfunc.types import Tensors

_SAMPLING_OPTIONS = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last")


def require_trainable(model: nn.Module) -> Tensors:
    """The trainable parameters of ``model``, if it can be trained privately as it is."""
    require(
        isinstance(model, nn.Module),
        "PrivacyEngine",
        "an nn.Module",
        type(model).__name__,
        "for functions use PrivateGrad",
        error=TypeError,
    )
    require_unwrapped("PrivacyEngine", model, allowed=frozenset({"FSDPModule"}))
    require(
        not isinstance(model, DataParallel) and not hasattr(model, "_orig_mod"),
        "PrivacyEngine",
        "the plain module",
        type(model).__name__,
        "pass the module itself, neither compiled nor wrapped for several devices",
        error=TypeError,
    )
    problems = [at for at in look(model) if at.severity == "error"]
    require(
        not problems,
        "PrivacyEngine",
        "a model that can be trained privately",
        [f"{at.path or 'the model'}: {at.what}; {at.why}" for at in problems],
        "; ".join(sorted({at.fix for at in problems})),
    )
    params: Tensors = {n: param for n, param in model.named_parameters() if param.requires_grad}
    require(
        len(params) > 0,
        "PrivacyEngine",
        "a model with trainable parameters",
        "none",
        "set requires_grad_(True) on those to train",
    )
    return params


def require_options(max_grad_norm: object, clip: object, loss_reduction: object) -> None:
    """ValueError unless clipping and the reduction of the loss are said, each in one way."""
    require(
        (max_grad_norm is None) != (clip is None),
        "PrivacyEngine",
        "max_grad_norm, or a clip rule",
        (max_grad_norm, clip),
        "pass one of them, such as max_grad_norm=1.0",
    )
    require(
        loss_reduction in ("mean", "sum"),
        "PrivacyEngine",
        'loss_reduction "mean" or "sum"',
        loss_reduction,
        "say what the loss of a batch is of the losses of its samples",
    )


def require_one_shard(group: object, strategy: object, clip: object) -> None:
    """ValueError for what several processes do not share yet."""
    require(
        group is None or (strategy is None and query_of(clip) == math.inf),
        "PrivacyEngine",
        "independent noise and a clip rule that learns nothing beside a group of processes",
        [type(part).__name__ for part in (strategy, clip) if part is not None],
        "use dpfunc.distributed.DataParallel for a rule that learns; train with a strategy in one "
        "process",
    )


def require_microbatches(microbatch_size: object, *, is_sharded: bool = False) -> None:
    """ValueError unless it is a number of samples, or None.

    ``is_sharded``: all processes have to run the model equally often, whatever was drawn.
    """
    require(
        microbatch_size is None or not is_sharded,
        "PrivacyEngine.loader",
        "no microbatch_size beside a model of fully_shard",
        microbatch_size,
        "raise shards: a batch comes in one part for each of a process's shards",
    )
    require(
        microbatch_size is None or (is_count(microbatch_size) and microbatch_size >= 1),
        "PrivacyEngine.loader",
        "microbatch_size >= 1, or None",
        microbatch_size,
        "leave it out to have each batch in one part",
    )


def require_in_turn(step: int, steps_taken: int) -> None:
    """RuntimeError where a batch is drawn that is not that of the next step."""
    require(
        step == steps_taken,
        "PrivacyEngine",
        f"the batch of step {steps_taken}",
        f"that of step {step}, after a batch that went through the model without a step",
        "call optimizer.step() once for each batch, whatever was in it; for larger batches "
        "raise batch_size, with microbatch_size in loader(...) where memory is short",
        error=RuntimeError,
    )


def require_no_closure(args: Any, kwargs: Any) -> None:
    """RuntimeError where ``optimizer.step`` got a closure."""
    require(
        closure_of(args, kwargs) is None,
        "PrivacyEngine",
        "optimizer.step() without a closure",
        "a closure",
        "a closure runs again on a batch that has been paid for once; compute the loss and "
        "call loss.backward() before the step",
        error=RuntimeError,
    )


def require_detached(attachment: object) -> None:
    """ValueError where an engine has an optimizer already."""
    require(
        attachment is None,
        "PrivacyEngine.attach",
        "an engine without an optimizer",
        "one that is attached",
        "call detach() first",
    )


def require_optimizer(optimizer: torch.optim.Optimizer, params: Tensors, model: nn.Module) -> None:
    """ValueError unless ``optimizer`` trains exactly ``params``, one step at a time.

    Frozen parameters of ``model`` may be in it as well: without a gradient it leaves them alone.
    """
    require(
        isinstance(optimizer, torch.optim.Optimizer) or hasattr(optimizer, "param_groups"),
        "PrivacyEngine",
        "an optimizer of torch.optim",
        type(optimizer).__name__,
        "pass torch.optim.SGD(model.parameters(), lr=0.1), say",
        error=TypeError,
    )
    require(
        not isinstance(optimizer, torch.optim.LBFGS),
        "PrivacyEngine",
        "an optimizer that sees each batch once",
        "LBFGS",
        "use SGD or Adam",
    )
    require(
        not isinstance(optimizer, torch.optim.SparseAdam),
        "PrivacyEngine",
        "an optimizer of dense gradients",
        "SparseAdam",
        "use Adam: the noise of a private gradient is in every row, looked up or not",
    )
    names = {id(param): name for name, param in params.items()}
    own = {id(param) for group in optimizer.param_groups for param in group["params"]}
    frozen = {id(p): n for n, p in model.named_parameters() if not p.requires_grad}
    strange = sum(param not in names and param not in frozen for param in own)
    require(
        strange == 0,
        "PrivacyEngine",
        "an optimizer of the model's trainable parameters alone",
        f"{strange} other tensors in it (of another model, of a copy, or thawed since the engine "
        "was made)",
        "make the optimizer from model.parameters(), after the last change of the model",
    )
    missing = sorted(name for param, name in names.items() if param not in own)
    require(
        not missing,
        "PrivacyEngine",
        "an optimizer of all trainable parameters",
        f"one without {missing[:5]}",
        "freeze those with requires_grad_(False), or give them to the optimizer",
    )
    moved = sorted(
        n
        for n, p in model.named_parameters()
        if id(p) in own & frozen.keys() and p.grad is not None
    )
    require(
        not moved,
        "PrivacyEngine",
        "frozen parameters without a gradient",
        f"an ordinary gradient of {moved[:5]}, which the optimizer would take a step with",
        "call optimizer.zero_grad() before the step",
    )


def require_own_gradients(params: Tensors) -> None:
    """RuntimeError where autograd has put ordinary gradients beside those of the engine."""
    _refuse_escaped(sorted(name for name, param in params.items() if param.grad is not None))


def refuse_own_gradient(name: str) -> None:
    """RuntimeError: an ordinary gradient has come to the parameter of this name."""
    _refuse_escaped([name])


def _refuse_escaped(escaped: list[str]) -> None:
    require(
        not escaped,
        "PrivacyEngine",
        "every use of a parameter inside of the model's own forward, in training mode",
        f"ordinary gradients of {escaped[:5]}",
        "call the model itself (not a part of it), in training mode; use weight_decay for a "
        "penalty on parameters, and use_reentrant=False in torch.utils.checkpoint",
        error=RuntimeError,
    )


def require_unchanged(model: nn.Module, params: Tensors) -> None:
    """RuntimeError where other parameters are trainable than when the engine was made."""
    known = {id(param) for param in params.values()}
    now = {id(param): n for n, param in model.named_parameters() if param.requires_grad}
    thawed = sorted(name for param, name in now.items() if param not in known)
    frozen = sorted(name for name, param in params.items() if id(param) not in now)
    require(
        not thawed and not frozen,
        "PrivacyEngine",
        "the parameters that were trainable when the engine was made",
        f"others: {thawed[:5]} can be trained now, {frozen[:5]} cannot any more",
        "after freezing, thawing or replacing parameters call engine.detach(), make a new engine "
        "with a new key, and compose the events of both",
        error=RuntimeError,
    )


def require_sized(dataset: Any, sample_size: int, options: dict[str, Any]) -> None:
    """ValueError unless ``dataset`` can be sampled from, and has the size that was planned with."""
    own = sorted(set(options) & set(_SAMPLING_OPTIONS))
    require(
        not own,
        "PrivacyEngine.loader",
        "options that leave the sampling alone",
        own,
        "batches are Poisson samples of the expected size batch_size of the engine, which is what "
        "the accounting assumes",
    )
    require(
        bool(options.get("in_order", True)),
        "PrivacyEngine.loader",
        "in_order=True",
        False,
        "a batch belongs to its step: out of order it would be taken for another one, and again "
        "where the loop starts over",
    )
    require(
        not isinstance(dataset, IterableDataset),
        "PrivacyEngine.loader",
        "a dataset that is read by index",
        f"an IterableDataset, {type(dataset).__name__}",
        "Poisson sampling picks samples by index; load its samples into a list",
        error=TypeError,
    )
    require(
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"),
        "PrivacyEngine.loader",
        "a dataset with __getitem__ and __len__",
        type(dataset).__name__,
        "Poisson sampling picks samples by index; load an iterable dataset into a list",
        error=TypeError,
    )
    require(
        len(dataset) == sample_size,
        "PrivacyEngine.loader",
        f"a dataset of sample_size = {sample_size} samples",
        len(dataset),
        "give the engine the size of this dataset",
    )
