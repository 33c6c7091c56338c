"""A function of tensors as one flat graph of operations, whose sums stay exact when compiled."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from dpfunc.persample.batches.shapes import shapes_alone

_to_copy = torch.ops.aten._to_copy.default
_SUMS = (
    torch.ops.aten.sum.dim_IntList,
    torch.ops.aten.sum.default,
    torch.ops.aten.linalg_vector_norm.default,
)


def captured(
    function: Callable[..., list[Tensor]], inputs: Sequence[Tensor], *, fused: bool
) -> GraphModule:
    """The operations of ``function(*inputs)`` below vmap, modes and autograd, for these shapes.

    ``fused``: whether kernels will be made of the graph, whose sums have to be kept exact.

    Nothing is computed: the inputs stand in by their shapes alone. A tensor that the function
    closes over becomes an attribute of the graph: the tensor itself, not a copy of it.
    """
    with shapes_alone() as like:
        graph = make_fx(function)(*map(like.from_tensor, inputs))
    if fused:
        _add_in_float64(graph)
    return graph


def _add_in_float64(module: GraphModule) -> None:
    """Let float32 sums be added up in float64, and rounded once.

    The kernels that torch.compile makes add float32 numbers in a row, thousands at a time: 1e6
    equal squares came out 1.4e-5 too small, and with them the norm that is to be clipped.
    """
    for node in list(module.graph.nodes):
        if node.target not in _SUMS or node.meta["val"].dtype != torch.float32:
            continue
        node.kwargs = {**node.kwargs, "dtype": torch.float64}
        with module.graph.inserting_after(node):
            rounded = module.graph.call_function(_to_copy, (node,), {"dtype": torch.float32})
        node.replace_all_uses_with(rounded)
        rounded.args = (node,)  # which the line above replaced as well
    module.recompile()
