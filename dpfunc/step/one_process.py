"""One process, and a plain module: several processes that know nothing of each other are refused.

Each of them would clip and sum its own samples and add noise of its own; averaging gradients, as
`DistributedDataParallel` does during backward, happens out of sight of the engine.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from dpfunc.checks import require

_WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}
_DEPTH = 3  # of functions that close over functions


def require_one_process(subject: str, remedy: str) -> None:
    """RuntimeError where a process group of several processes is in use; ``remedy`` says more."""
    distributed = torch.distributed
    initialised = distributed.is_available() and distributed.is_initialized()
    size = distributed.get_world_size() if initialised else 1
    require(
        size == 1,
        subject,
        "one process",
        f"a process group of {size}",
        "each process would clip its own samples and add noise of its own, which is another "
        f"mechanism than the one that is accounted for; {remedy}",
        error=RuntimeError,
    )


def require_unwrapped(
    subject: str, module: nn.Module, *, allowed: frozenset[str] = frozenset()
) -> None:
    """TypeError where ``module``, or a part of it, is wrapped for several processes.

    ``allowed``: the names of wrappers that ``subject`` serves.
    """
    wrapped = sorted({name for part in module.modules() for name in _wrapper(part)} - allowed)
    require(
        not wrapped,
        subject,
        "the plain module",
        f"one wrapped in {', '.join(wrapped)}",
        "pass the module that was wrapped: the wrapper moves gradients between processes, where "
        "neither clipping nor noise reaches them",
        error=TypeError,
    )


def require_plain_closure(subject: str, function: Any) -> None:
    """TypeError where ``function`` closes over a module that is wrapped for several processes."""
    for module in _modules_of(function, _DEPTH):
        require_unwrapped(subject, module)


def _wrapper(module: nn.Module) -> set[str]:
    return _WRAPPERS & {kind.__name__ for kind in type(module).__mro__}


def _modules_of(value: Any, depth: int) -> Iterator[nn.Module]:
    """The modules that a function uses: its closure, its globals, its own attributes."""
    if isinstance(value, nn.Module):
        yield value
    elif depth > 0:
        for held in _held_by(value):
            yield from _modules_of(held, depth - 1)


def _held_by(value: Any) -> list[Any]:
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    code = getattr(value, "__code__", None)
    if code is None:
        attributes = list(getattr(value, "__dict__", {}).values()) if callable(value) else []
        return [part for part in attributes if callable(part)]
    cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
    named = [value.__globals__.get(name) for name in code.co_names]
    return [*cells, *named, getattr(value, "__self__", None)]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that its function has not bound yet
        return False
