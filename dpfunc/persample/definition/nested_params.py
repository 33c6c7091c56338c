"""Parameters in any nesting of dicts, lists and tuples, as `torch.func` takes them: flat inside."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree

from dpfunc.checks import require
from dpfunc.persample.definition.loss import Batched, LossFn
from dpfunc.types import Tensors

Rebuild = Callable[[Mapping[str, Any]], Any]


def flattened(subject: str, params: Any) -> tuple[Tensors, Rebuild | None]:
    """The tensors of ``params`` by name, and the way back; None where they are flat already.

    A name joins the keys and places on the way to its tensor by dots: ``{"a": [w]}`` has ``a.0``.
    TypeError where there are other things than tensors in it.
    """
    if isinstance(params, dict) and all(map(_is_entry, params.items())):
        return params, None
    paths, spec = _pytree.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    strange = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]
    require(
        not strange and not isinstance(params, Tensor),
        subject,
        "params as tensors by name, or in a nesting of dicts, lists and tuples",
        type(params).__name__ if len(leaves) == 1 and leaves[0] is params else strange[:3],
        "pass dpfunc.named_params(module)",
        error=TypeError,
    )
    names = [".".join(map(_step, path)) for path, _ in paths]
    require(
        len(set(names)) == len(names),
        subject,
        "params whose keys, joined by dots, are different",
        sorted({name for name in names if names.count(name) > 1}),
        "leave the dots out of the keys",
    )

    def rebuild(flat: Mapping[str, Any]) -> Any:
        return _pytree.tree_unflatten([flat[name] for name in names], spec)

    return dict(zip(names, leaves, strict=True)), rebuild


def of_flat(loss_fn: LossFn, rebuild: Rebuild) -> LossFn:
    """``loss_fn``, which takes its params nested, of the flat ones."""

    def flat_loss(params: Tensors, *sample: Any) -> Tensor:
        return loss_fn(rebuild(params), *sample)

    return replace(loss_fn, loss_fn=flat_loss) if isinstance(loss_fn, Batched) else flat_loss


def _is_entry(entry: tuple[object, object]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor)


def _step(entry: Any) -> str:
    """A key of a dict, a place in a list or a tuple, or the name of a field."""
    return str(next(getattr(entry, at) for at in ("key", "idx", "name") if hasattr(entry, at)))
