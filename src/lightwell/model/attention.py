"""Causal self-attention: each token asks (q), is asked (k), and gathers what it may see (v).

Shapes: B batch, T new tokens, S tokens that can be seen (S = T without a cache), D model, H heads, G heads of keys and
values, K head dim. Two implementations of softmax(q k^T / sqrt(K)) v stand side by side: `explicit_attention` is the
formula, a line for each step; `fused_attention` is one call to torch. `attend` is the only place that chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightwell.model.blockwise import blockwise_attention, fused_backward_attention, use_blockwise
from lightwell.model.cache import LayerCache
from lightwell.model.config import ModelConfig
from lightwell.model.dropout import DropoutMask, sample_dropout_mask
from lightwell.model.layers import Linear, RMSNorm
from lightwell.model.positions import Rotation, rotate
from lightwell.model.tap import ChangeWatcher, Tap, passthrough


@dataclass(frozen=True)
class AttentionMask:
    """Which keys each query may see."""

    mask: Tensor
    """(T, S) or (B, 1, T, S): bool, True where a query may see a key; for compiled blocks in bf16 on a CPU, which read
    it faster so, fp32: 0 there and -inf elsewhere."""
    is_causal: bool
    """The mask is causal and nothing else: the last of the T queries sees all S keys, the one before it one fewer."""


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani 2017, section 3.2) with grouped keys and values (Ainslie 2023)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, H, G, K = config.d_model, config.n_heads, config.kv_heads, config.head_width
        self.n_heads, self.n_kv_heads, self.head_dim = H, G, K
        self.implementation = config.attention
        self.dropout = config.attention_dropout
        self.qkv = Linear(D, (H + 2 * G) * K, bias=config.qkv_bias)
        self.output = Linear(H * K, D, bias=config.bias)
        self.q_norm = RMSNorm(K, eps=config.norm_epsilon) if config.qk_norm else None
        self.k_norm = RMSNorm(K, eps=config.norm_epsilon) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        attention_mask: AttentionMask,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        tap: Tap = passthrough,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        B, T, _ = x.shape
        H, G, K = self.n_heads, self.n_kv_heads, self.head_dim
        q, k, v = self.qkv(x).split((H * K, G * K, G * K), dim=-1)
        q = q.view(B, T, H, K).transpose(1, 2)  # (B, H, T, K)
        k = k.view(B, T, G, K).transpose(1, 2)  # (B, G, T, K)
        v = v.view(B, T, G, K).transpose(1, 2)  # (B, G, T, K)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        q, k = q.to(v.dtype), k.to(v.dtype)  # rotations are done in fp32
        if cache is not None:
            k, v = cache.append(k, v)  # (B, G, S, K)
        q, k, v = tap("q", q), tap("k", k), tap("v", v)
        k, v = repeat_heads(k, H // G), repeat_heads(v, H // G)  # (B, H, S, K)
        dropout = self.dropout if self.training else 0.0
        values = attend(self.implementation, q, k, v, attention_mask, dropout, tap)  # (B, H, T, K)
        return tap("output", self.output(values.transpose(1, 2).reshape(B, T, H * K)))


def repeat_heads(x: Tensor, times: int) -> Tensor:
    """(B, G, S, K) -> (B, G * times, S, K): each key-value head serves `times` query heads in a row."""
    return x if times == 1 else x.repeat_interleave(times, dim=1)


def attend(
    implementation: str, q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, dropout: float, tap: Tap
) -> Tensor:
    """Choose how attention is computed, in this one place; all ways give the same values to 1e-5 in fp32.

    `fused` stands for the fastest, which on a CPU is sometimes the formula.

    A tap on the fused path is served by the explicit formula computed beside it, so that watching changes no bit of
    what flows; where the tap changes something, what the formula makes of it flows on. Beside a GPU's kernel the
    formula has no dropout, since the kernel does not say which weights it drops.
    """
    mask, dropout_mask = attention_mask.mask, None
    if dropout > 0 and (implementation == "explicit" or q.device.type == "cpu"):  # kernels for GPUs draw their own
        dropout_mask = sample_dropout_mask((*q.shape[:-1], k.size(-2)), dropout, q.device)
    if implementation == "explicit":
        return explicit_attention(q, k, v, mask, dropout_mask, tap)
    blockwise = use_blockwise(q, k.size(-2))
    if dropout_mask is not None and not blockwise:  # torch has no kernel with dropout for CPUs
        return explicit_attention(q, k, v, mask, dropout_mask, tap)
    if tap is not passthrough:
        watched = ChangeWatcher(tap)
        values = explicit_attention(q, k, v, mask, dropout_mask, watched)
        if watched.changed:
            return values
    if not blockwise:
        return fused_attention(q, k, v, attention_mask, dropout)
    lean = torch.compiler.is_compiling() and mask.is_floating_point()
    return blockwise_attention(fused_backward_attention if lean else explicit_attention, q, k, v, mask, dropout_mask)


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout_mask: DropoutMask | None = None, tap: Tap = passthrough
) -> Tensor:
    """Scaled dot-product attention, Vaswani 2017, equation 1. q (B, H, T, K), k and v (B, H, S, K) -> (B, H, T, K).

    mask: as in `AttentionMask`; dropout_mask (B, H, T, S): on the weights.
    """
    scores = tap("scores", q @ k.transpose(-2, -1))  # (B, H, T, S)  similarity of each query with each key
    scaled = tap("scaled", scores / math.sqrt(q.size(-1)))  # (B, H, T, S)  variance 1 again, whatever K is
    masked = tap("masked", scaled + additive_mask(mask, q.dtype))  # (B, H, T, S)  the future cannot be seen
    weights = tap("weights", softmax(masked))  # (B, H, T, S)  each row sums to 1
    kept = weights if dropout_mask is None else dropout_mask(weights)  # (B, H, T, S)  what is kept grows by 1/(1-p)
    dropped = tap("dropped", kept.to(v.dtype))
    return tap("values", dropped @ v)  # (B, H, T, K)  a weighted mean of the values


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where the mask is True and -inf where it is False: to add is faster than to fill, and gives the same bits.

    A mask that is of numbers already is only cast.
    """
    if mask.is_floating_point():
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -math.inf)


def softmax(scores: Tensor) -> Tensor:
    """Return exp(s) / sum(exp(s)) over the keys, in fp32 at least: in bf16, rows would sum to 1 within 0.002 only."""
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, dropout: float) -> Tensor:
    """Compute attention in one call to torch, which need not store the (T, S) matrices. Shapes as in the formula."""
    T, S = q.size(-2), k.size(-2)
    square = attention_mask.is_causal and T == S  # torch's own causal mask begins at the first key
    sees_all = attention_mask.is_causal and T == 1  # one new token after a cache
    mask = None if square or sees_all else attention_mask.mask
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=square)
