"""Attention: the fused kernel under vmap, and multi-head attention as linear maps around it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpfunc.persample.factors.forms import Dense, Factored, accumulable
from dpfunc.persample.factors.outer import Outer, sum_of_products
from dpfunc.persample.rules.linear import linear, positions
from dpfunc.persample.watching.capture import Rule, Tape, require_randomness


def _fused(
    tape: Tape,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    ranks = {query.dim(), key.dim(), value.dim()}
    if not tape.samples.mapped:  # the kernel can be called as it is
        return NotImplemented
    if any(map(tape.name, (query, key, value, attn_mask))) or ranks not in ({3}, {4}):
        return NotImplemented

    def run(
        randomness: str, _: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor]:
        require_randomness(randomness, dropout_p, "attention")
        lead = q.shape[:-3]  # [B] or [B, N], which becomes the one batch axis of the kernel

        def with_one_batch_axis(part: Tensor) -> Tensor:
            return part.expand(*lead, *part.shape[len(lead) :]).flatten(0, -4)

        if mask is not None:
            mask = mask.unflatten(0, (len(mask), *(1,) * (q.dim() - mask.dim())))
            mask = with_one_batch_axis(mask)
        q, k, v = map(with_one_batch_axis, (q, k, v))
        output = F.scaled_dot_product_attention(
            q, k, v, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return (output.unflatten(0, lead),)

    (output,) = tape.on_whole_batch(run, query, key, value, attn_mask)
    return output


def _multi_head(
    tape: Tape,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """F.multi_head_attention_forward for inputs ``[L, N, E]`` or ``[L, E]``, option by option."""
    unusual = add_zero_attn or any(x is not None for x in (bias_k, bias_v, static_k, static_v))
    if unusual or any(map(tape.name, (query, key, value, attn_mask, key_padding_mask))):
        return NotImplemented
    weights_of_all = (in_proj_weight, in_proj_bias, q_proj_weight, k_proj_weight, v_proj_weight)
    if not tape.weights_of_all(*weights_of_all, out_proj_weight, out_proj_bias):
        return NotImplemented
    batched = query.dim() == 3
    inputs = (query, key, value) if batched else [x.unsqueeze(1) for x in (query, key, value)]
    if use_separate_proj_weight:
        matrices = (q_proj_weight, k_proj_weight, v_proj_weight)
        projected = [
            _packed_linear(tape, x, weight, None, in_proj_bias, part)
            for part, (x, weight) in enumerate(zip(inputs, matrices, strict=True))
        ]
    elif query is key and key is value:
        projected = linear(tape, inputs[0], in_proj_weight, in_proj_bias).chunk(3, -1)
    else:
        projected = [
            _packed_linear(tape, x, in_proj_weight, part, in_proj_bias, part)
            for part, x in enumerate(inputs)
        ]
    # [L, N, E] -> [N, heads, L, E / heads]
    q, k, v = (x.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3) for x in projected)
    mask = _merged_mask(q, k, attn_mask, key_padding_mask)
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        mixed, weights = _attention_with_weights(q, k, v, mask, dropout_p)
    else:
        attend = partial(_fused, tape) if tape.samples.mapped else F.scaled_dot_product_attention
        mixed, weights = attend(q, k, v, mask, dropout_p), None
    output = linear(tape, mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
    if weights is not None:
        weights = weights.mean(1) if average_attn_weights else weights
        weights = weights if batched else weights.squeeze(0)
    return (output if batched else output.squeeze(1)), weights


def _or_by_copies(rule: Callable[..., Any], function: Any) -> Callable[..., Any]:
    """The rule where it applies; else the function on copies of the parameters in it."""

    def run(tape: Tape, *args: Any, **kwargs: Any) -> Any:
        result = rule(tape, *args, **kwargs)
        if result is not NotImplemented or not tape.mentions((args, tuple(kwargs.values()))):
            return result
        # The fused kernels have neither a rule under vmap nor gradients for a mask.
        with sdpa_kernel(SDPBackend.MATH):
            return tape.with_copies(function, *args, **kwargs)

    return run


def _packed_linear(
    tape: Tape, input: Tensor, weight: Any, weight_part: int | None, bias: Any, bias_part: int
) -> Tensor:
    """F.linear with one third of a packed bias, and of a packed weight where its part is given."""

    def rows(packed: Tensor, part: int) -> Tensor:
        third: Tensor = tape.frozen(packed).chunk(3)[part]
        return third

    def of_weight(read: Tensor, grad: Tensor) -> Factored:
        whole = sum_of_products(positions(grad), positions(read))
        if weight_part is None:
            return whole
        if isinstance(whole, Dense):
            rows = grad.shape[-1]
            return Dense(F.pad(whole.values, (0, 0, weight_part * rows, (2 - weight_part) * rows)))
        return Outer(_among_three(grad, weight_part), positions(read))

    def of_bias(_: Tensor, grad: Tensor) -> Factored:
        return Dense(accumulable(_among_three(grad, bias_part)).sum(1))

    matrix = tape.frozen(weight) if weight_part is None else rows(weight, weight_part)
    output = F.linear(input, matrix, None if bias is None else rows(bias, bias_part))
    return tape.tap(output, input, (weight, of_weight), (bias, of_bias))


def _among_three(grad: Tensor, part: int) -> Tensor:
    """``[B, T, 3 d]``: the output gradient of one third, with zeros for the other two."""
    width = grad.shape[-1]
    return F.pad(positions(grad), (part * width, (2 - part) * width))


def _merged_mask(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
) -> Tensor | None:
    """One additive mask ``[N or 1, heads or 1, L, S]`` of the two that attention takes."""
    size, heads = query.shape[:2]
    if attn_mask is not None:
        attn_mask = _additive(attn_mask, query)
        if attn_mask.dim() == 3:  # [N * heads, L, S]
            attn_mask = attn_mask.unflatten(0, (size, heads))
        else:
            attn_mask = attn_mask[None, None]
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, query)
        padding = padding.reshape(-1, 1, 1, key.shape[2])
        attn_mask = padding if attn_mask is None else attn_mask + padding
    return attn_mask


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)


def _attention_with_weights(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[Tensor, Tensor]:
    scores = (query / math.sqrt(query.shape[-1])) @ key.mT
    weights = (scores if mask is None else scores + mask).softmax(-1)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return weights @ value, weights


ATTENTION_RULES = {
    function: Rule(_or_by_copies(rule, function), always)
    for function, rule, always in (
        (F.scaled_dot_product_attention, _fused, True),
        (F.multi_head_attention_forward, _multi_head, False),
    )
}
