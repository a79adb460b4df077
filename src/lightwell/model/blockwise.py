"""Attention for a block of queries after the other, each with no more keys than its last query may see.

On a processor this is the fastest way for short bf16 sequences. Eager, a block is the formula itself. For the compiler
it is `fused_backward_attention`, which reads and writes little and which tests hold against the formula.
Shapes as in attention.py: q (B, H, T, K), k and v (B, H, S, K), mask and penalty (T, S) or (B, 1, T, S).
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

Way = Callable[[Tensor, Tensor, Tensor, Tensor, DropoutMask | None], Tensor]
"""How one block is computed: (q, k, v, mask or penalty, dropout_mask) -> values."""


def use_blockwise(q: Tensor, k: Tensor) -> bool:
    """Return whether blocks beat torch's kernel on a processor, as measured in docs/performance.md.

    The kernel multiplies short bf16 sequences slowly; long ones do not fit into the caches between two products.
    """
    return q.dtype == torch.bfloat16 and q.size(-2) == k.size(-2) <= LONGEST


def blockwise_attention(
    way: Way, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout_mask: DropoutMask | None = None
) -> Tensor:
    """Attention where S = T and no query sees the future, (B, H, T, K); four blocks leave out 3/8 of the work."""
    values = []
    for start in range(0, q.size(-2), BLOCK):
        rows, end = slice(start, start + BLOCK), min(start + BLOCK, q.size(-2))
        part = None if dropout_mask is None else dropout_mask.part(rows, end)
        values.append(way(q[..., rows, :], k[..., :end, :], v[..., :end, :], mask[..., rows, :end], part))
    return torch.cat(values, dim=-2)


def fused_backward_attention(
    q: Tensor, k: Tensor, v: Tensor, penalty: Tensor, dropout_mask: DropoutMask | None = None
) -> Tensor:
    """`explicit_attention` for compiled code: the same values, and gradients from the weights that are there anyway.

    penalty: the mask as numbers, 0 where a query may see a key and -inf where not, in fp32. Made inside compiled code
    it would keep the compiler from vectorising the loop.
    """
    values: Tensor = _FusedBackwardAttention.apply(q, k, v, penalty, dropout_mask)  # type: ignore[no-untyped-call]
    return values


class _FusedBackwardAttention(torch.autograd.Function):
    """The backward pass by hand; the one that follows from the formula computes the exponentials once more.

    With weights a = softmax(s), dropped weights d and values o = d v, the gradient of a score is
    ds_ij = a_ij (da_ij - sum_k a_ik da_ik), and the sum, over all keys, is do_i . o_i: a number for each query, had
    without another pass over the (T, S) matrix (Dao 2022, FlashAttention, appendix B.2).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, penalty: Tensor, dropout_mask: DropoutMask | None) -> Tensor:
        weights = _weights(q @ k.mT, penalty, 1.0 / math.sqrt(q.size(-1))).to(v.dtype)
        dropped = weights if dropout_mask is None else dropout_mask(weights)
        values = dropped @ v
        ctx.probability = None if dropout_mask is None else dropout_mask.probability
        ctx.save_for_backward(q, k, v, weights, values, *(() if dropout_mask is None else (dropout_mask.mask,)))
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, values, *masks = ctx.saved_tensors
        dropout_mask = DropoutMask(masks[0], ctx.probability) if masks else None
        along = gradient @ v.mT  # (B, H, T, S)  of the dropped weights
        dropped = weights
        if dropout_mask is not None:
            along, dropped = dropout_mask(along), dropout_mask(weights)
        mean = (gradient.float() * values.float()).sum(-1, keepdim=True)  # (B, H, T, 1)
        scores = (weights.float() * (along.float() - mean) * (1.0 / math.sqrt(q.size(-1)))).to(q.dtype)
        return scores @ k, scores.mT @ q, dropped.mT @ gradient, None, None


def _weights(scores: Tensor, penalty: Tensor, scale: float) -> Tensor:
    """softmax(scores * scale + penalty) in fp32.

    All queries stand below one another, (B H T, S), so that the compiler makes one loop of rows that stay in the cache;
    over four dimensions it makes several, and writes a (B, H, T, S) tensor in fp32 between them.
    """
    rows = penalty.expand(scores.shape).reshape(-1, scores.size(-1))
    return (scores.reshape(rows.shape).float() * scale + rows).softmax(-1).view(scores.shape)
