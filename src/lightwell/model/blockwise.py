"""Attention for a block of queries after the other, each with no more keys than its last query may see.

On a CPU this is the fastest way for short bf16 sequences. Eager, a block is the formula itself. For the compiler it is
`fused_backward_attention`, which reads and writes little and which tests hold against the formula.
Shapes as in attention.py: q (B, H, T, K), k and v (B, H, S, K), mask (T, S) or (B, 1, T, S).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightwell.model.dropout import DropoutMask

BLOCK = 128
"""Queries in a block."""
LONGEST = 512
"""Queries up to which blocks are faster."""

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor, DropoutMask | None], Tensor]
"""How one block is computed: (q, k, v, mask, dropout_mask) -> values."""


def use_blockwise(q: Tensor, S: int) -> bool:
    """Return whether blocks beat torch's kernel for these queries (..., T, width) and S keys (docs/decisions.md).

    On a CPU the kernel multiplies short bf16 sequences slowly; long ones do not fit into the caches between two
    products.
    """
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.size(-2) == S <= LONGEST


def blockwise_attention(
    attention: AttentionFunction, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout_mask: DropoutMask | None = None
) -> Tensor:
    """Attention where S = T and no query sees the future, (B, H, T, K); four blocks leave out 3/8 of the work."""
    values = []
    for start in range(0, q.size(-2), BLOCK):
        rows, end = slice(start, start + BLOCK), min(start + BLOCK, q.size(-2))
        dropped = None if dropout_mask is None else dropout_mask.block(rows, end)
        values.append(attention(q[..., rows, :], k[..., :end, :], v[..., :end, :], mask[..., rows, :end], dropped))
    return torch.cat(values, dim=-2)


def fused_backward_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout_mask: DropoutMask | None = None
) -> Tensor:
    """`explicit_attention` for compiled code: the same values, and gradients from the weights that are there anyway.

    mask: as numbers in fp32 (`additive_mask`), made beforehand: made in compiled code they would keep the compiler
    from vectorising the loop.
    """
    values: Tensor = _FusedBackwardAttention.apply(q, k, v, mask, dropout_mask)  # type: ignore[no-untyped-call]
    return values


class _FusedBackwardAttention(torch.autograd.Function):
    """The backward pass by hand; the one that follows from the formula computes the exponentials once more.

    With weights a = softmax(s), dropped weights d and values o = d v, the gradient of a score is
    ds_ij = a_ij (da_ij - sum_k a_ik da_ik), and the sum, over all keys, is do_i . o_i: a number for each query, had
    without another pass over the (T, S) matrix (Dao 2022, FlashAttention, appendix B.2).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout_mask: DropoutMask | None) -> Tensor:
        weights = _weights(q @ k.mT, mask, 1.0 / math.sqrt(q.size(-1))).to(v.dtype)
        dropped = weights if dropout_mask is None else dropout_mask(weights)
        values = dropped @ v
        ctx.probability = None if dropout_mask is None else dropout_mask.probability
        ctx.save_for_backward(q, k, v, weights, values, *(() if dropout_mask is None else (dropout_mask.mask,)))
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, values, *kept = ctx.saved_tensors
        dropout_mask = DropoutMask(kept[0], ctx.probability) if kept else None
        along = gradient @ v.mT  # (B, H, T, S)  of the dropped weights
        dropped = weights
        if dropout_mask is not None:
            along, dropped = dropout_mask(along), dropout_mask(weights)
        mean = (gradient.float() * values.float()).sum(-1, keepdim=True)  # (B, H, T, 1)
        scores = (weights.float() * (along.float() - mean) * (1.0 / math.sqrt(q.size(-1)))).to(q.dtype)
        return scores @ k, scores.mT @ q, dropped.mT @ gradient, None, None


def _weights(scores: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return softmax(scores * scale + mask) in fp32.

    All queries stand below one another, (B H T, S), so that the compiler makes one loop of rows that stay in the cache;
    over four dimensions it makes several, and writes a (B, H, T, S) tensor in fp32 between them.
    """
    rows = mask.expand(scores.shape).reshape(-1, scores.size(-1))
    return (scores.reshape(rows.shape).float() * scale + rows).softmax(-1).view(scores.shape)
