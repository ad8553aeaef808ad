"""Attention as onnxruntime's optimizer writes it; both operators are of version 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import RUNTIME_DOMAIN, op

_HIDDEN = -10000.0
_BY_LENGTH, _BY_KEY = 1, 2
"""Axes of a mask: a length for each sample, or 0 and 1 for each key."""


@op("Attention", 1, domain=RUNTIME_DOMAIN)
def packed_attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    added: Tensor | None = None,
    *,
    outputs: int,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = _HIDDEN,
    qkv_hidden_sizes: Sequence[int] | None = None,
    scale: float | None = None,
    unidirectional: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """Attention whose queries, keys and values are one product; then keys and values, stacked."""
    if do_rotary:
        raise ValueError("rotary positions inside Attention are not supported in training")
    sizes = list(qkv_hidden_sizes or [weights.shape[1] // 3] * 3)
    product = x @ weights
    parts = torch.split(product if bias is None else product + bias, sizes, -1)
    q, k, v = (_heads(part, num_heads) for part in parts)
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    hidden = _hidden(mask, q, k, mask_filter_value)
    y = _attended(q, k, v, hidden, added, scale, causal=bool(unidirectional))
    return y if outputs == 1 else (y, torch.stack([k, v]))


@op("MultiHeadAttention", 1, domain=RUNTIME_DOMAIN)
def multi_head_attention(
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    added: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    outputs: int,
    num_heads: int,
    mask_filter_value: float = _HIDDEN,
    scale: float | None = None,
    unidirectional: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """Attention of queries, keys and values that are three tensors; then keys and values."""
    if k is None or v is None:
        raise ValueError("queries, keys and values in one tensor are not supported in training")
    if bias is not None and k.dim() == v.dim() == q.dim():
        parts = torch.split(bias, [q.shape[-1], k.shape[-1], v.shape[-1]])
        q, k, v = (each + part for each, part in zip((q, k, v), parts, strict=True))
    elif bias is not None:
        q = q + bias[: q.shape[-1]]
    q, k, v = (_heads(each, num_heads) for each in (q, k, v))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    hidden = _hidden(mask, q, k, mask_filter_value)
    y = _attended(q, k, v, hidden, added, scale, causal=bool(unidirectional))
    return y if outputs == 1 else (y, k, v)[:outputs]


def _heads(x: Tensor, count: int) -> Tensor:
    """``(batch, steps, heads * size)`` as ``(batch, heads, steps, size)``, if it is not yet."""
    if x.dim() > 3:
        return x
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _hidden(mask: Tensor | None, q: Tensor, k: Tensor, value: float) -> Tensor | None:
    """What is added to scores where a mask hides keys, to be broadcast to ``(batch, 1, q, k)``."""
    if mask is None:
        return None
    keys = torch.arange(k.shape[2], device=k.device)
    if mask.dim() == _BY_LENGTH:
        ends, *starts = mask.reshape(-1, len(q), 1, 1, 1)
        shown = keys < ends
        if starts:  # places where the keys of each sample begin
            shown = shown & (keys >= starts[0])
    elif mask.dim() == _BY_KEY:
        shown = mask[:, None, None, :] != 0
    else:
        shown = mask[:, None] != 0
    return torch.where(shown, 0.0, value).to(q.dtype)


def _attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hidden: Tensor | None,
    added: Tensor | None,
    scale: float | None,
    *,
    causal: bool,
) -> Tensor:
    """Attention over heads, as ``(batch, steps, heads * size)``."""
    bias = hidden if added is None else added if hidden is None else hidden + added
    if causal:
        before = k.shape[2] - q.shape[2]
        places = torch.arange(q.shape[2], device=q.device)[:, None] + before
        later = torch.arange(k.shape[2], device=q.device) > places
        ahead = q.new_zeros(later.shape).masked_fill(later, -math.inf)
        bias = ahead if bias is None else bias + ahead
    y = functional.scaled_dot_product_attention(q, k, v, bias, scale=scale or None)
    return y.transpose(1, 2).flatten(2)
