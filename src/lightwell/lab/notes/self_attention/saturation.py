"""Softmax over dot products of random vectors: their spread, its saturation and its gradient, by head size.

q and k have independent components of variance 1, so that q . k has variance d_k (Vaswani 2017, footnote 4). There is
no model here. Shapes: N sets, T queries and T keys in each, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightwell.lab.verdicts.crossing import falls_at
from lightwell.training.update.streams import stream_seed

KEYS = 64
"""T, the keys that a query chooses among."""
SIZES = (4, 8, 16, 32, 64, 96, 128, 256)
SATURATED = 0.99
"""A row counts as saturated where one key has more than this."""
KINDS = ("unscaled", "scaled")


def saturation(sets: int, seed: int) -> list[dict[str, Any]]:
    """Return for each head size the spread of q . k, and what `row_numbers` says of softmax, unscaled and scaled."""
    return [{"size": d, **numbers(d, sets, seed)} for d in SIZES]


def numbers(d: int, sets: int, seed: int) -> dict[str, Any]:
    """Return the numbers of one head size, from `sets` draws of 64 queries and 64 keys."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "saturation", d))
    q, k = torch.randn(2, sets, KEYS, d, generator=generator)
    scores = q @ k.transpose(1, 2)  # (N, T, T)
    return {
        "std": float(scores.std()),
        "unscaled": row_numbers(scores),
        "scaled": row_numbers(scores / math.sqrt(d)),
    }


def row_numbers(scores: Tensor) -> dict[str, float]:
    """Return the share of saturated rows, mean entropy as a share of ln T and median gradient of scores (..., T)."""
    weights = scores.double().softmax(dim=-1).flatten(0, -2)
    entropy = -torch.special.xlogy(weights, weights).sum(dim=-1)
    return {
        "saturated": float((weights.amax(dim=-1) > SATURATED).double().mean()),
        "entropy": float(entropy.mean()) / math.log(weights.size(-1)),
        "gradient": float(jacobian_norm(weights).median()),
    }


def jacobian_norm(weights: Tensor) -> Tensor:
    """Return the Frobenius norm (R,) of softmax's derivative diag(p) - p p^T of rows (R, T), without building it.

    Its square is sum p^2 - 2 sum p^3 + (sum p^2)^2. It is 0 for a one-hot row: such a row learns nothing any more.
    """
    squares, cubes = weights.square().sum(dim=-1), weights.pow(3).sum(dim=-1)
    return (squares - 2.0 * cubes + squares.square()).clamp_min(0.0).sqrt()


def crossing(rows: Sequence[dict[str, Any]]) -> float:
    """Return the head size from which on the unscaled gradient is the smaller one, between two of the sizes on a log
    scale.
    """
    gaps = [math.log(max(row["unscaled"]["gradient"], 1e-12) / row["scaled"]["gradient"]) for row in rows]
    place = falls_at([row["size"] for row in rows], gaps)
    return place if math.isfinite(place) else math.nan
