"""A captured graph run again as a flat list of operator calls: no vmap, no tape, no compiler."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_SAME = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)
_RESHAPED = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.expand.default,
)


def replayed(graph: GraphModule) -> Callable[..., list[Tensor]]:
    """What runs the operations of ``graph``, less those that change nothing.

    The kernels are those of eager PyTorch, called in the order in which they were captured: sums
    are as exact as eager sums are, and memory is written and read in the same order.
    """
    for node in list(graph.graph.nodes):
        if _is_its_input(node):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code(is_impure_node=_must_run)
    graph.recompile()
    run: Callable[..., list[Tensor]] = graph.forward
    return run


def _is_its_input(node: Node) -> bool:
    """Whether the result is the first argument itself: the same memory, read in the same way."""
    if node.target in _SAME:
        return True
    return node.target in _RESHAPED and _layout(node) == _layout(node.args[0])


def _layout(node: Any) -> tuple[Any, ...]:
    values = node.meta["val"]
    return values.shape, values.stride(), values.storage_offset()


def _must_run(node: Node) -> bool:
    """Inputs, outputs, and operations that write into memory that others may read."""
    if node.op != "call_function":
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
