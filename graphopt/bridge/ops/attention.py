"""Attention and what belongs to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op
from graphopt.bridge.tensors import dtype_of

_SOFTCAPPED, _BIASED, _SHARES = 1, 2, 3


@op("Attention", 23, 24, 25)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    outputs: int,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Attention-25; torch's fused kernel where nothing between scores and shares is asked."""
    flat = q.dim() == 3
    if flat:
        q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    kept = (k, v)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    before = 0 if past_key is None else past_key.shape[2]
    bias = _bias(
        q,
        k,
        attn_mask,
        before,
        nonpad_kv_seqlen,
        bool(is_causal),
        left_window_size,
        right_window_size,
    )
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if outputs < 4 and not softcap and softmax_precision is None:
        y = scores = _fused(q, k, v, bias, scale)
    else:
        precision = q.dtype if softmax_precision is None else dtype_of(softmax_precision)
        y, scores = _explicit(q, k, v, bias, scale, softcap, precision, qk_matmul_output_mode)
    if flat:
        y = y.transpose(1, 2).flatten(2)
    return y if outputs == 1 else (y, *kept, scores)[:outputs]


def _heads(x: Tensor, count: int | None) -> Tensor:
    """``(batch, steps, heads * size)`` as ``(batch, heads, steps, size)``."""
    if not count:
        raise ValueError("inputs of three axes need q_num_heads and kv_num_heads")
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _bias(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    before: int,
    lengths: Tensor | None,
    causal: bool,
    left: int,
    right: int,
) -> Tensor | None:
    """What is added to the scores: the mask, and minus infinity where a query may not look.

    Query ``i`` stands at ``i`` plus the keys that come before this block: of the cache, or of
    each sample's valid keys.
    """
    bias: Tensor | None = None
    if mask is not None:
        bias = (
            q.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
            if mask.dtype == torch.bool
            else mask
        )
        missing = k.shape[2] - mask.shape[-1]
        bias = functional.pad(bias, [0, missing], value=-math.inf) if missing > 0 else bias
    allowed = torch.ones(1, 1, device=q.device, dtype=torch.bool)
    keys = torch.arange(k.shape[2], device=q.device)
    offset: Tensor | int = before
    if lengths is not None:
        valid = lengths.reshape(-1, 1, 1, 1)
        allowed = allowed & (keys < valid)
        offset = before or valid - q.shape[2]
    distance = torch.arange(q.shape[2], device=q.device)[:, None] + offset - keys
    if causal:
        allowed = allowed & (distance >= 0)
    if left >= 0:
        allowed = allowed & (distance <= left)
    if right >= 0:
        allowed = allowed & (-distance <= right)
    if lengths is None and not causal and left < 0 and right < 0:
        return bias
    limits = q.new_zeros(allowed.shape).masked_fill(~allowed, -math.inf)
    return limits if bias is None else bias + limits


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention by torch's kernel; a query that may look nowhere gives zeros, also backwards."""
    if bias is None:
        return functional.scaled_dot_product_attention(q, k, v, scale=scale)
    empty = bias.isneginf().all(-1, keepdim=True)
    y = functional.scaled_dot_product_attention(q, k, v, bias.masked_fill(empty, 0.0), scale=scale)
    return y.masked_fill(empty, 0.0)


def _explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float,
    precision: torch.dtype,
    mode: int,
) -> tuple[Tensor, Tensor]:
    """Attention in single steps, with the scores or shares that the node asks for."""
    root = math.sqrt(scale)
    scores = (q * root) @ (k * root).transpose(-1, -2)
    shown = scores
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mode == _SOFTCAPPED or softcap:
        shown = scores
    if bias is not None:
        scores = scores + bias
    if bias is None:
        shares = torch.softmax(scores.to(precision), -1)
    else:
        empty = bias.isneginf().all(-1, keepdim=True)
        shares = torch.softmax(scores.masked_fill(empty, 0.0).to(precision), -1)
        shares = shares.masked_fill(empty, 0.0)
    if mode == _BIASED:
        shown = scores
    elif mode == _SHARES:
        shown = shares
    return shares.to(q.dtype) @ v, shown.to(q.dtype)


@op("RotaryEmbedding", 23)
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """RotaryEmbedding-23."""
    steps = x.transpose(1, 2) if x.dim() == 4 else x.reshape(*x.shape[:2], num_heads, -1)
    turned = rotary_embedding_dim or steps.shape[-1]
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
    cos, sin = cos_cache.unsqueeze(2), sin_cache.unsqueeze(2)
    head, rest = steps[..., :turned], steps[..., turned:]
    a, b = (head[..., ::2], head[..., 1::2]) if interleaved else head.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        head = torch.stack([real, imaginary], -1).flatten(-2)
    else:
        head = torch.cat([real, imaginary], -1)
    y = torch.cat([head, rest], -1)
    return y.transpose(1, 2) if x.dim() == 4 else y.reshape(x.shape)


@op("LinearAttention", 27)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    chunk_size: int = 64,  # noqa: ARG001 - a hint about speed
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """LinearAttention-27, one step after the other, in float32."""
    q = _heads(query, q_num_heads).float()
    k, v = _heads(key, kv_num_heads).float(), _heads(value, kv_num_heads).float()
    state = q.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    if past_state is not None:
        state = past_state.float()
    gates = None if decay is None else _heads(decay, kv_num_heads).float().exp()
    rates = None if beta is None else beta.float().transpose(1, 2)[..., None]
    groups = q_num_heads // kv_num_heads
    steps = []
    for t in range(q.shape[2]):
        now_k, now_v = k[:, :, t], v[:, :, t]
        if gates is not None:
            state = state * gates[:, :, t, :, None]
        if rates is not None and "delta" in update_rule:
            known = torch.einsum("bhdm,bhd->bhm", state, now_k)
            now_v = rates[:, :, t] * (now_v - known)
        state = state + now_k[..., :, None] * now_v[..., None, :]
        read = state.repeat_interleave(groups, 1)
        steps.append(torch.einsum("bhd,bhdm->bhm", q[:, :, t], read))
    y = (scale or 1 / math.sqrt(q.shape[-1])) * torch.stack(steps, 1)
    kept = query.dtype if past_state is None else past_state.dtype
    return y.flatten(2).to(query.dtype), state.to(kept)
