"""The arguments of torch functions by name, as PyTorch itself states them, with their defaults.

A Python function states its own; a compiled one has schemas, one for each way to call it.
"""

import inspect
from typing import Any

import torch
from torch.overrides import get_testing_overrides

REQUIRED = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(function: Any) -> dict[str, Any]:
    """``{name: default or REQUIRED}``; empty for an operator or a property, which take no names."""
    found = _stated(function) or _by_schemas(function)
    return {name: default for name, default in found.items() if name not in ("self", "input")}


def _stated(function: Any) -> dict[str, Any]:
    try:
        given = inspect.signature(function).parameters.values()
    except ValueError:
        return {}
    if any(p.kind in _VARIADIC for p in given):  # torch.einsum: what its stand-in for tests says
        given = inspect.signature(get_testing_overrides()[function]).parameters.values()
    return {p.name: p.default for p in given if p.kind is not p.POSITIONAL_ONLY}


def _by_schemas(function: Any) -> dict[str, Any]:
    """``out`` is left out: PyTorch has no gradients through it; a method takes no dtype."""
    found: dict[str, Any] = {}
    is_method = inspect.ismethoddescriptor(function)
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{function.__name__}"):
        if "out" in schema.overload_name or (schema.overload_name == "dtype" and is_method):
            continue
        for argument in schema.arguments:
            default = argument.default_value if argument.has_default_value() else REQUIRED
            found.setdefault(argument.name, default)
    return found
