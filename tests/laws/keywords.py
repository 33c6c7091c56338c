"""Every keyword of every function that has a rule, at values off its default.

A new rule, or a new keyword of PyTorch's, joins by a line here: `test_l7_keywords.py` compares this
matrix with the signatures themselves.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.laws.calls import DROP, DROPOUT, Call, Index, P, X, family
from tests.laws.keywords_recurrent import layers_and_cells, packing
from tests.laws.signatures import REQUIRED, arguments

_W = P((4, 3))
_NOT_ON_CPU = "Could not run .aten::|vmap|dtype"


def _linear() -> Iterator[Call]:
    yield from family(F.linear, {"input": X((5, 4)), "weight": P((3, 4))}, {"bias": P((3,))})
    yield from family(
        F.bilinear,
        {"input1": X((5, 4)), "input2": X((5, 2)), "weight": P((3, 4, 2))},
        {"bias": P((3,))},
    )
    for addmm in (torch.addmm, Tensor.addmm):
        yield from family(
            addmm,
            {"input": P((3,)), "mat1": X((4,)), "mat2": _W},
            {"beta": 0.5},
            {"alpha": 2.5},
            {"beta": -2, "alpha": -1},
        )
    for matmul in (torch.matmul, Tensor.matmul):
        yield from family(matmul, {"input": X((5, 4)), "other": _W}, {"other": P((4,))})
    for mm in (torch.mm, Tensor.mm):
        yield from family(mm, {"input": X((4,)), "mat2": _W})
    other_dtype = {"out_dtype": torch.float32}  # of kernels for CUDA alone
    yield from family(
        torch.addmm,
        {"input": P((3,)), "mat1": X((4,)), "mat2": _W, **other_dtype},
        refused=_NOT_ON_CPU,
    )
    yield from family(torch.mm, {"input": X((4,)), "mat2": _W, **other_dtype}, refused=_NOT_ON_CPU)
    yield from family(
        torch.einsum,
        {"equation": "bti,io->bto", "operands": [X((5, 4)), _W]},
        {"equation": "bti,io->boti"},
        {"equation": "bti,io->bot"},
        run=lambda equation, operands: torch.einsum(equation, *operands),
    )


def _convolutions() -> Iterator[Call]:
    for axes, plain, transposed in (
        (1, F.conv1d, F.conv_transpose1d),
        (2, F.conv2d, F.conv_transpose2d),
        (3, F.conv3d, F.conv_transpose3d),
    ):
        image, kernel = (7, 6, 5)[:axes], (3, 2, 3)[:axes]
        uneven = {"stride": (2, 1, 2)[:axes], "padding": (0, 1, 2)[:axes]}
        alike = [{"bias": P((6,))}, {"stride": 2}, {"padding": 1}, uneven, {"padding": [2]}]
        yield from family(
            plain,
            {"input": X((4, *image)), "weight": P((6, 4, *kernel))},
            *alike,
            {"padding": "same", "weight": P((6, 4, *(3,) * axes))},
            {"padding": "valid"},
            {"dilation": 2},
            {"dilation": (1, 2, 1)[:axes], "stride": 2},
            {"groups": 2, "weight": P((6, 2, *kernel))},
        )
        yield from family(
            transposed,
            {"input": X((4, *image)), "weight": P((4, 6, *kernel))},
            *alike,
            {"output_padding": 1, "stride": 2},
            {"output_padding": (1, 0, 1)[:axes], "stride": (3, 2, 2)[:axes], "padding": 1},
            {"dilation": 2},
            {"groups": 2, "weight": P((4, 3, *kernel))},
            {"groups": 2, "weight": P((4, 3, *kernel)), "dilation": 2, "stride": 3},
        )


_ROWS = [[1, 2, 2, 6, 0], [2, 2, 2, 2, 2], [5, 1, 6, 6, 4]]
_MIXES = "alone as in a batch|held for others|mixes samples"


_RESCALES = "max_norm=0.5, which rescales in place"


def _one(weight: Tensor, offsets: Tensor, **given: Any) -> Tensor:
    return F.embedding_bag(given.pop("input")[0], weight, offsets[0], **given)[None]


def _by_lookups(weight: Tensor, mode: str, **given: Any) -> Tensor:
    return F.embedding(given.pop("input"), weight, **given).sum(1)


def _lookups() -> Iterator[Call]:
    base = {"input": Index(_ROWS), "weight": P((7, 3))}
    changes = [
        {"padding_idx": 2},
        {"padding_idx": -1},
        ({"max_norm": 0.5}, _RESCALES),
        ({"max_norm": 0.5, "norm_type": 1.0}, _RESCALES),
        {"norm_type": 1.0},  # without max_norm it says nothing
        ({"scale_grad_by_freq": True}, "", _MIXES),
        {"sparse": True},
    ]
    yield from family(F.embedding, base, *changes)
    yield from family(
        F.embedding_bag,
        base,
        *(change for change in changes if "scale_grad_by_freq" not in str(change)),
        {"mode": "sum"},
        {"mode": "max"},
        {"mode": "sum", "per_sample_weights": X((5,))},
    )
    yield from family(  # whose gradient in PyTorch 2.13 takes the count of another row
        F.embedding_bag,
        {**base, "scale_grad_by_freq": True, "mode": "sum"},
        by_hand=_by_lookups,
        as_batch=_MIXES,
    )
    offsets = Index([[0, 2, 2], [0, 4, 5], [0, 1, 3]])
    yield from family(
        F.embedding_bag,
        {**base, "offsets": offsets},
        {"mode": "max"},
        {
            "mode": "sum",
            "include_last_offset": True,
            "offsets": Index([[0, 2, 5], [0, 4, 5], [0, 1, 5]]),
        },
        {
            "mode": "mean",
            "include_last_offset": True,  # that ends before the input does
            "offsets": Index([[0, 2, 4], [0, 3, 3], [0, 1, 2]]),
        },
        {"padding_idx": 2},
        run=_one,
        whole_batch=False,
    )


def _attention() -> Iterator[Call]:
    part, mask = X((4, 5, 4)), torch.ones(5, 5).tril()
    yield from family(
        F.scaled_dot_product_attention,
        {"query": X((4, 5, 4)), "key": P((1, 4, 5, 4)), "value": part},
    )
    yield from family(
        F.scaled_dot_product_attention,
        {"query": part, "key": part, "value": part, "scales": P((4,))},
        {"attn_mask": mask.bool()},
        {"attn_mask": X((4, 5, 5))},
        ({"dropout_p": 0.5}, DROPOUT),
        {"is_causal": True},
        {"scale": 0.3},
        {"enable_gqa": True, "key": X((2, 5, 4)), "value": X((2, 5, 4))},
        {"scale": 1.7, "is_causal": True, "value": X((4, 5, 3))},
        run=_with_a_parameter,
    )
    own = {"bias_k": P((1, 1, 4)), "bias_v": P((1, 1, 4))}
    apart = {"in_proj_weight": None, "use_separate_proj_weight": True}
    matrices = {f"{name}_proj_weight": P((4, 4)) for name in "qkv"}
    static = X((2, 3, 2))
    yield from family(
        F.multi_head_attention_forward,
        {
            "query": X((5, 4), 1), "key": X((5, 4), 1), "value": X((5, 4), 1),
            "embed_dim_to_check": 4, "num_heads": 2,
            "in_proj_weight": P((12, 4)), "in_proj_bias": P((12,)),
            "bias_k": None, "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0,
            "out_proj_weight": P((4, 4)), "out_proj_bias": P((4,)),
        },
        {"num_heads": 1},
        {"in_proj_bias": None, "out_proj_bias": None},
        own,
        {"add_zero_attn": True},
        ({"dropout_p": 0.5}, DROPOUT),
        {"dropout_p": 0.5, "training": False},
        {"dropout_p": 0.5, "training": False, "need_weights": False},
        {"key_padding_mask": Index([[False, True, False, False, True]] * 2 + [[False] * 5])},
        {"need_weights": False},
        {"attn_mask": ~torch.ones(5, 5).tril().bool()},
        {"attn_mask": torch.linspace(-1, 1, 25, dtype=torch.float64).view(5, 5)},
        {"attn_mask": torch.linspace(-1, 1, 25, dtype=torch.float64).view(5, 5),
         "key_padding_mask": X((5,))},
        {**apart, **matrices},
        {**apart, **matrices, "need_weights": False, "in_proj_bias": None},
        {"static_k": static},
        {"static_v": static},
        {"average_attn_weights": False},
        {"is_causal": True, "attn_mask": ~torch.ones(5, 5).tril().bool(), "need_weights": False},
        {"is_causal": True, "attn_mask": ~torch.ones(5, 5).tril().bool()},
        run=_attended,
    )  # fmt: skip


def _with_a_parameter(
    query: Tensor, key: Tensor, value: Tensor, scales: Tensor, **options: Any
) -> Tensor:
    return F.scaled_dot_product_attention(query * scales, key, value, **options)


def _attended(
    query: Tensor, static_k: Any = None, static_v: Any = None, **given: Any
) -> Tensor | tuple[Tensor, ...]:
    """Samples on axis 0 of what comes out. Static keys are ``[N * heads, S, E / heads]``."""
    static = {"static_k": static_k, "static_v": static_v}
    static = {name: part.flatten(0, 1) for name, part in static.items() if part is not None}
    for name in static:  # as many positions as the other has
        other = "value" if name == "static_k" else "key"
        given[other] = given[other][:3]
        if given.get("key") is not None and name == "static_k":
            given["key"] = given["key"][:3]
        else:
            given["value"] = given["value"][:3]
    output, weights = F.multi_head_attention_forward(query, **given, **static)
    output = output.transpose(0, 1)
    return output if weights is None else (output, weights)


def _norms() -> Iterator[Call]:
    affine = {"weight": P((4,)), "bias": P((4,))}
    channels = {"weight": P((4,)), "bias": P((4,))}
    yield from family(
        F.layer_norm,
        {"input": X((5, 4)), "normalized_shape": (4,), **affine},
        {"eps": 0.3},
        {"bias": DROP},
        {"weight": DROP},
        {"normalized_shape": (5, 4), "weight": P((5, 4)), "bias": P((5, 4)), "eps": 2.0},
    )
    yield from family(
        F.rms_norm,
        {"input": X((5, 4)), "normalized_shape": (4,), "weight": P((4,))},
        {"eps": 0.3},
        {"normalized_shape": [5, 4], "weight": P((5, 4)), "eps": 2.0},
    )
    yield from family(
        F.group_norm,
        {"input": X((4, 5)), "num_groups": 2, **channels},
        {"num_groups": 1},
        {"num_groups": 4},
        {"eps": 0.3},
        {"bias": DROP, "eps": 2.0},
    )
    mean = torch.linspace(-1, 1, 4, dtype=torch.float64)
    running = {"running_mean": mean, "running_var": mean.exp()}
    written = f"updated in place|{_MIXES}"
    yield from family(
        F.batch_norm,
        {"input": X((4, 5)), **running, **channels},
        {"eps": 0.3},
        {"bias": DROP},
        {"weight": DROP, "eps": 2.0},
        {"momentum": 0.7},  # which says nothing in eval mode
        ({"running_mean": None, "running_var": None, "training": True}, "", _MIXES),
        ({"training": True}, written),
        ({"training": True, "momentum": 0.7}, written),
    )


CALLS = [
    *(*_linear(), *_convolutions(), *_lookups(), *_attention(), *_norms()),
    *(*layers_and_cells(), *packing()),
]
# The width of the input; and what torch.nn hands on from one of its functions to the other.
_FREE = {"embed_dim_to_check", "data", "batch_sizes"}


def left_out(function: Any) -> set[str]:
    """The arguments of ``function`` that no call gives another value than their default.

    Where there is none, a number or a flag has to come in two values.
    """
    calls = [call for call in CALLS if call.function is function]
    missing = set()
    for name, default in arguments(function).items():
        if name in _FREE:
            continue
        values = [call.given[name] for call in calls if name in call.given]
        if default is REQUIRED and values:
            plain = isinstance(values[0], bool | int | float | str)
            if plain and len(set(map(str, values))) < 2:
                missing.add(name)
        elif all(str(value) in (str(default), str(_as_number(default))) for value in values):
            missing.add(name)
    return missing


def _as_number(default: Any) -> Any:
    """``[1, 1]`` says what 1 says."""
    return default[0] if isinstance(default, list) and len(set(default)) == 1 else default
